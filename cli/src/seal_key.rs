//! `seal.key` beside an embedded store: the key that callers' headers are sealed with where
//! none is configured. It is made once, and readable by its owner only.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdpoint_perform::KEY_BYTES;

use crate::dev_file;

const FILE: &str = "seal.key";

/// The key of this folder, as the configuration writes it. The store's lock on the folder is
/// held, so nobody else makes one at the same time.
pub fn of(folder: &Path) -> anyhow::Result<String> {
    let path = folder.join(FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => make(folder),
        Err(error) => anyhow::bail!("{}: {error}", path.display()),
    }
}

/// Whole or not at all: half a key would open nothing.
fn make(folder: &Path) -> anyhow::Result<String> {
    dev_file::make_folder(folder)?;
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let text = STANDARD.encode(key);
    let fresh = folder.join("seal.key.new");
    drop(fs::remove_file(&fresh));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&fresh, folder.join(FILE))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_made_once_for_its_owner_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let key = of(folder.path()).expect("made");
        assert_eq!(STANDARD.decode(&key).expect("base64").len(), KEY_BYTES);
        assert_eq!(of(folder.path()).expect("there"), key);
        let mode = fs::metadata(folder.path().join(FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(of(&folder.path().join("other")).expect("another"), key);
    }
}
