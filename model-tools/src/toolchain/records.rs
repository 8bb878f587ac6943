//! What one session learned of the tools, for the next one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::driver::Driver;
use crate::model::FileView;

/// The version of the encoding, its first byte.
const VERSION: u8 = 1;

/// The longest record that is read, in bytes: some hundred programs.
const MAX_LEN: usize = 4 << 20;

/// Closures of programs and answers of drivers, each valid while the stamps of its files are the same.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Records {
    closures: BTreeMap<PathBuf, Vec<(PathBuf, u64)>>,
    drivers: BTreeMap<PathBuf, (u64, Driver)>,
}

impl Records {
    /// Encodes for a file: a version byte, then postcard.
    pub fn to_bytes(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("paths, numbers and maps can be encoded")
    }

    /// Decodes; nothing when the version is another one or the bytes are damaged or too many: all is asked anew then.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&VERSION, rest) if rest.len() <= MAX_LEN => postcard::from_bytes(rest).ok(),
            _ => None,
        }
    }

    pub(super) fn driver(&self, program: &Path, stamp: u64) -> Option<Driver> {
        self.drivers.get(program).filter(|(old, _)| *old == stamp).map(|(_, driver)| driver.clone())
    }

    pub(super) fn set_driver(&mut self, program: &Path, stamp: u64, driver: &Driver) {
        self.drivers.insert(program.to_owned(), (stamp, driver.clone()));
    }

    pub(super) fn closure(&self, program: &Path, files: &dyn FileView) -> Option<Vec<PathBuf>> {
        let closure = self.closures.get(program)?;
        let same = closure.iter().all(|(path, stamp)| files.stamp(path) == Some(*stamp));
        same.then(|| closure.iter().map(|(path, _)| path.clone()).collect())
    }

    pub(super) fn set_closure(&mut self, program: &Path, closure: &[PathBuf], files: &dyn FileView) {
        let stamped: Option<Vec<_>> =
            closure.iter().map(|path| Some((path.clone(), files.stamp(path)?))).collect();
        if let Some(stamped) = stamped {
            self.closures.insert(program.to_owned(), stamped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_or_damage_means_nothing_is_known() {
        let bytes = Records::default().to_bytes();
        assert_eq!(Records::from_bytes(&bytes), Some(Records::default()));
        assert_eq!(Records::from_bytes(&[]), None);
        assert_eq!(Records::from_bytes(&[VERSION + 1, 0, 0]), None);
        assert_eq!(Records::from_bytes(&bytes[..bytes.len() - 1]), None);
    }
}
