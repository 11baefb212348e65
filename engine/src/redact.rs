//! Credentials taken out of what is kept for people to read.
//!
//! An API key is `hp_<id>_<secret>_<checksum>`, and its id is public: what is kept names the id
//! in place of the key, so that an operator sees whose it was.

/// Of an id, after its prefix.
const ID: usize = 26;
/// Of a secret.
const SECRET: usize = 40;
/// Of a checksum.
const CHECKSUM: usize = 8;

/// What stands where something was that may be a credential.
pub const REMOVED: &str = "removed";

/// The bytes, with every API key in them replaced by its id (`key_…`), wherever it stands.
pub fn keys_out(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        match key_at(rest) {
            Some((id, length)) => {
                out.extend_from_slice(b"key_");
                out.extend_from_slice(id);
                rest = &rest[length..];
            }
            None => {
                out.push(*first);
                rest = &rest[1..];
            }
        }
    }
    out
}

/// As [`keys_out`], of a text.
pub fn keys_out_of(text: &str) -> String {
    String::from_utf8_lossy(&keys_out(text.as_bytes())).into_owned()
}

/// The member of a start whose values are for tools alone, and are kept nowhere but sealed.
pub const FORWARDED: &str = "forwarded_headers";

/// How often these bytes name that member.
pub fn forwarded_in(bytes: &[u8]) -> usize {
    bytes.windows(FORWARDED.len()).filter(|window| *window == FORWARDED.as_bytes()).count()
}

/// The id and the whole length of a key that begins here.
fn key_at(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let rest = bytes.strip_prefix(b"hp_")?;
    let (id, rest) = run(rest, ID)?;
    let (_, rest) = run(rest.strip_prefix(b"_")?, SECRET)?;
    let (_, rest) = run(rest.strip_prefix(b"_")?, CHECKSUM)?;
    Some((id, bytes.len() - rest.len()))
}

fn run(bytes: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (run, rest) = bytes.split_at_checked(length)?;
    run.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()).then_some((run, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_becomes_its_id_wherever_it_stands() {
        let id = "01h455vb4pex5vsknk084sn02q";
        let key = format!("hp_{id}_{}_0a1b2c3d", "x".repeat(SECRET));
        for (before, after) in
            [("", ""), ("Bearer ", ""), ("{\"api_key\":\"", "\"}"), ("hp_hp_", "_"), ("\u{fc}", "\u{fc}")]
        {
            let kept = keys_out_of(&format!("{before}{key}{after}"));
            assert_eq!(kept, format!("{before}key_{id}{after}"));
        }
        assert_eq!(keys_out_of(&format!("{key}{key}")), format!("key_{id}key_{id}"));
    }

    #[test]
    fn forwarded_headers_are_seen_wherever_they_stand() {
        assert_eq!(forwarded_in(b"{\"forwarded_headers\":{}"), 1);
        assert_eq!(forwarded_in(b"\xffforwarded_headersforwarded_headers"), 2);
        assert_eq!(forwarded_in(b"forwarded"), 0);
    }

    #[test]
    fn what_is_no_key_stays() {
        for text in ["", "hp_", "hp_short_x_y", "\u{fc}hp_\u{fc}", &format!("hp_{}", "x".repeat(100))] {
            assert_eq!(keys_out_of(text), text);
        }
        assert_eq!(keys_out(b"\xff\x00hp_"), b"\xff\x00hp_");
    }
}
