//! `./.holdpoint/dev.json`: where `holdpoint dev` listens and the key that it made, readable
//! by its owner only. The client verbs look here when they are given neither address nor key.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The folder of `dev`'s data, in the current folder.
pub const FOLDER: &str = ".holdpoint";

/// What `dev` leaves for the client verbs, and for its own next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevFile {
    /// Where it listens (or listened last).
    pub url: String,
    /// The admin key.
    pub key: String,
    /// The key's public id.
    pub key_id: String,
    /// The port of the demonstration's model and tools, so that an execution that waits for
    /// an approval finds its tool again after a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub demo_port: Option<u16>,
}

impl DevFile {
    fn path(folder: &Path) -> PathBuf {
        folder.join("dev.json")
    }

    /// Reads it; `None` where there is none. One that makes no sense is an error.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(folder);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => anyhow::bail!("{}: {error}", path.display()),
        };
        let file = serde_json::from_str(&text).map_err(|error| {
            anyhow::anyhow!("{}: {error}; remove it to have a new one made", path.display())
        })?;
        Ok(Some(file))
    }

    /// Writes it whole or not at all, for its owner's eyes only.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        make_folder(folder)?;
        let fresh = folder.join("dev.json.new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        // The mode above holds for a new file only.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&fresh, Self::path(folder))?;
        Ok(())
    }
}

/// Makes the folder, for its owner only; one that is there is left as it is.
pub fn make_folder(folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = folder.path().join("data");
        let file = DevFile {
            url: "http://127.0.0.1:1".into(),
            key: "k".into(),
            key_id: "i".into(),
            demo_port: Some(2),
        };
        assert_eq!(DevFile::read(&inner).expect("none"), None);
        file.write(&inner).expect("written");
        fs::set_permissions(inner.join("dev.json"), fs::Permissions::from_mode(0o644)).expect("opened up");
        file.write(&inner).expect("written again");
        assert_eq!(DevFile::read(&inner).expect("read"), Some(file));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&inner.join("dev.json")), 0o600);
        assert_eq!(mode(&inner), 0o700);
    }

    #[test]
    fn one_that_makes_no_sense_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("dev.json"), "{").expect("written");
        assert!(DevFile::read(folder.path()).expect_err("bad").to_string().contains("dev.json"));
    }
}
