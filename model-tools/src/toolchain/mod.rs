//! The user's own tools as files: each program with what it loads, and what belongs to a compiler driver.
//!
//! [`Tools::files_of`] serves any ELF program (`ar`, `strip`, …); [`Tools::driver`] asks a compiler driver once where its
//! programs are. Both are remembered by [`FileView::stamp`]; [`Records`] carries that from one session to the next.

mod driver;
pub mod elf;
mod records;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ggr_ir::{Entry, Object, RootPath};
use rustc_hash::FxHashMap;

pub use driver::{Driver, Family};
pub use records::Records;

use crate::inputs::{InputSet, Trails};
use crate::model::{FileView, Found, Reason};

/// Programs and all that they load, as entries of a thunk.
pub type ToolFiles = Arc<[(RootPath, Entry<Object>)]>;

/// Entries that were gathered, and the stamps of the programs they were gathered for.
struct Gathered {
    stamps: Vec<u64>,
    files: ToolFiles,
}

/// What is known of the tools of this machine. One for a session; calls may overlap.
#[derive(Default)]
pub struct Tools {
    trails: Trails,
    records: Mutex<Records>,
    gathered: Mutex<FxHashMap<Vec<PathBuf>, Gathered>>,
    drivers: Mutex<FxHashMap<PathBuf, (u64, Arc<Driver>)>>,
}

impl Tools {
    /// Starts from what an earlier session recorded.
    pub fn new(records: Records) -> Self {
        Self { records: Mutex::new(records), ..Self::default() }
    }

    /// What the next session should start from.
    pub fn records(&self) -> Records {
        self.records.lock().expect("no holder panics").clone()
    }

    /// The trails for this session's [`InputSet`]s.
    pub fn trails(&self) -> &Trails {
        &self.trails
    }

    /// These programs, their interpreters and their shared libraries. Paths are absolute, as the caller names them.
    ///
    /// Costs one stamp for each program when all was seen before in this session.
    ///
    /// # Errors
    /// [`Reason::MissingInput`] if one is not there, [`Reason::Other`] if it is no ELF program.
    pub fn files_of(&self, programs: &[&Path], files: &dyn FileView) -> Result<ToolFiles, Reason> {
        self.stamped_files_of(programs, files).map(|(_, files)| files)
    }

    /// As [`Tools::files_of`], with a number that changes whenever one of the programs may have changed.
    ///
    /// # Errors
    /// As [`Tools::files_of`].
    pub fn stamped_files_of(
        &self,
        programs: &[&Path],
        files: &dyn FileView,
    ) -> Result<(u64, ToolFiles), Reason> {
        let stamps = programs.iter().map(|program| stamp(program, files)).collect::<Result<Vec<_>, _>>()?;
        let version = stamps.iter().fold(0, |sum: u64, stamp| sum.rotate_left(7) ^ stamp);
        let key: Vec<PathBuf> = programs.iter().map(|program| program.to_path_buf()).collect();
        if let Some(known) = self.gathered.lock().expect("no holder panics").get(&key)
            && known.stamps == stamps
        {
            return Ok((version, known.files.clone()));
        }
        let mut set = InputSet::new(files, &self.trails);
        for program in programs {
            for file in self.closure(program, files)? {
                set.add(Path::new("/"), &file)?;
            }
        }
        let gathered: ToolFiles = set.finish().into_iter().collect();
        let entry = Gathered { stamps, files: gathered.clone() };
        self.gathered.lock().expect("no holder panics").insert(key, entry);
        Ok((version, gathered))
    }

    /// One program, its interpreter and its shared libraries.
    ///
    /// # Errors
    /// As [`Tools::files_of`].
    pub fn tool_files(&self, program: &Path, files: &dyn FileView) -> Result<ToolFiles, Reason> {
        self.files_of(&[program], files)
    }

    /// What a compiler driver says of itself; asked once, and again when its file changed.
    ///
    /// # Errors
    /// [`Reason::MissingInput`] if it is not there, [`Reason::Other`] if it does not answer as a compiler driver.
    pub fn driver(&self, program: &Path, files: &dyn FileView) -> Result<Arc<Driver>, Reason> {
        let stamp = stamp(program, files)?;
        if let Some((old, driver)) = self.drivers.lock().expect("no holder panics").get(program)
            && *old == stamp
        {
            return Ok(driver.clone());
        }
        let recorded = self.records.lock().expect("no holder panics").driver(program, stamp);
        let driver = match recorded {
            Some(driver) => driver,
            None => {
                let driver = Driver::ask(program).map_err(|error| Reason::Other(error.to_string()))?;
                self.records.lock().expect("no holder panics").set_driver(program, stamp, &driver);
                driver
            }
        };
        let driver = Arc::new(driver);
        self.drivers.lock().expect("no holder panics").insert(program.to_owned(), (stamp, driver.clone()));
        Ok(driver)
    }

    /// The program that the name leads to by way of `PATH`, as `execvp(3)` finds it for a process in `dir`.
    pub fn in_path(name: &str, path: &str, dir: &Path, files: &dyn FileView) -> Option<PathBuf> {
        path.split(':').map(|part| dir.join(part).join(name)).find(|candidate| {
            matches!(files.find(candidate), Found::File { executable: true, .. } | Found::Placeholder(_))
        })
    }

    fn closure(&self, program: &Path, files: &dyn FileView) -> Result<Vec<PathBuf>, Reason> {
        let recorded = self.records.lock().expect("no holder panics").closure(program, files);
        if let Some(closure) = recorded {
            return Ok(closure);
        }
        let closure = elf::closure(program).map_err(|error| Reason::Other(error.to_string()))?;
        self.records.lock().expect("no holder panics").set_closure(program, &closure, files);
        Ok(closure)
    }
}

fn stamp(program: &Path, files: &dyn FileView) -> Result<u64, Reason> {
    files.stamp(program).ok_or_else(|| Reason::MissingInput(program.display().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::DiskView;

    fn names(files: &ToolFiles) -> Vec<&str> {
        files.iter().map(|(path, _)| path.as_str()).collect()
    }

    #[test]
    fn a_tool_comes_with_its_libraries_and_the_links_to_them() {
        let (view, tools) = (DiskView::new(), Tools::default());
        let files = tools.tool_files(Path::new("/usr/bin/as"), &view).unwrap();
        let names = names(&files);
        assert!(names.contains(&"/usr/bin/as"), "{names:?}");
        assert!(names.iter().any(|name| name.contains("/ld-linux")), "{names:?}");
        assert!(names.iter().any(|name| name.contains("/libc.so.6")), "{names:?}");
    }

    #[test]
    fn what_was_recorded_is_not_asked_again() {
        let (view, tools) = (DiskView::new(), Tools::default());
        let gcc = Path::new("/usr/bin/gcc");
        let driver = tools.driver(gcc, &view).unwrap();
        let files = tools.tool_files(gcc, &view).unwrap();
        let bytes = tools.records().to_bytes();
        let later = Tools::new(Records::from_bytes(&bytes).unwrap());
        assert_eq!(later.driver(gcc, &view).unwrap(), driver);
        assert_eq!(later.tool_files(gcc, &view).unwrap(), files);
        assert_eq!(later.records(), tools.records());
    }

    #[test]
    fn a_program_is_found_by_path_in_order() {
        let view = DiskView::new();
        let find = |path: &str| Tools::in_path("gcc", path, Path::new("/usr"), &view);
        assert_eq!(find("/nowhere:bin:/usr/bin"), Some("/usr/bin/gcc".into()));
        assert_eq!(find("/nowhere"), None);
    }
}
