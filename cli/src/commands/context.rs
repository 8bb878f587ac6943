//! What every command starts from: environment, directory, configuration, and where its answer goes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ggr_ir::RootPath;
use ggr_ir::repo::Repo;

use crate::args::Global;
use crate::config::{Config, StorePlace, When};
use crate::env::Environment;
use crate::error::{Error, Paint};

/// What every command starts from.
pub(crate) struct Context {
    /// The environment ggr was started with.
    pub(crate) env: Environment,
    /// The working directory, after `-C`.
    pub(crate) dir: PathBuf,
    /// The configuration.
    pub(crate) config: Config,
    /// `--json`: nothing if it was not given, `-` if it was given without a file.
    pub(crate) json: Option<PathBuf>,
}

impl Context {
    /// Goes to `-C`'s directory and reads the configuration.
    pub(crate) fn new(global: &Global) -> Result<Self, Error> {
        if let Some(directory) = &global.directory {
            std::env::set_current_dir(directory).map_err(Error::io("go to", directory))?;
        }
        let dir = std::env::current_dir().map_err(Error::io("look at", "."))?;
        let env = Environment::read();
        let config = Config::load(&env, &global.settings(), &dir)?;
        let context = Self { env, dir, config, json: global.json.clone() };
        context.config.notes.iter().for_each(|note| context.note(note));
        Ok(context)
    }

    /// The repository that is there.
    pub(crate) fn repository(&self) -> Result<Repo, Error> {
        let given = self.config.dir.value.as_deref();
        Repo::find(given, &self.dir)?.ok_or_else(|| Error::Unknown {
            what: match given {
                Some(path) => format!("there is no repository at `{}`", path.display()),
                None => format!("there is no repository at or above `{}`", self.dir.display()),
            },
            hint: "a build with ggr makes one; `--dir` or GGR_DIR names one elsewhere".to_owned(),
        })
    }

    /// The repository that is there, or a new one.
    pub(crate) fn repository_or_new(&self) -> Result<Repo, Error> {
        Ok(Repo::find_or_create(self.config.dir.value.as_deref(), &self.dir)?)
    }

    /// The directory whose `blobs/` holds the blobs.
    pub(crate) fn blobs<'a>(&'a self, repo: &'a Repo) -> &'a Path {
        self.config.store.value.as_ref().and_then(StorePlace::directory).unwrap_or(repo.root())
    }

    /// A file's absolute path as the coordinator records it: the directory without symlinks, the name as it is.
    pub(crate) fn absolute(&self, file: &Path) -> PathBuf {
        let parent = match file.parent() {
            Some(parent) if parent != Path::new("") => self.dir.join(parent),
            _ => self.dir.clone(),
        };
        let real = parent.canonicalize();
        let parent = real.unwrap_or_else(|_| {
            RootPath::lexical(&self.dir, &parent).map_or(parent, |path| path.as_path().to_owned())
        });
        file.file_name().map_or(parent.clone(), |name| parent.join(name))
    }

    /// Says something on standard error, unless the user wants quiet.
    pub(crate) fn note(&self, text: &str) {
        if !self.config.quiet.value {
            eprintln!("ggr: {text}");
        }
    }

    /// Whether a build gets a status line, if it has a terminal that can show one.
    pub(crate) fn shows_progress(&self) -> bool {
        let config = &self.config;
        !config.quiet.value && config.progress.value != When::Never && self.env.has_capable_terminal()
    }

    /// Prints a command's answer to standard output. A reader that has seen enough (`| head`) is no failure.
    pub(crate) fn print(&self, text: &str) -> Result<(), Error> {
        print(text)
    }

    /// Prints a command's answer as JSON, to `--json`'s file or to standard output.
    pub(crate) fn print_json(&self, value: &serde_json::Value) -> Result<(), Error> {
        let mut text = format!("{value:#}");
        text.push('\n');
        match self.json.as_deref() {
            Some(path) if path != Path::new("-") => {
                std::fs::write(path, text).map_err(Error::io("write", path))
            }
            _ => print(&text),
        }
    }
}

/// Whether ggr's own messages are coloured. Asked only when there is one to print: the configuration is read again, as the
/// message may be that it cannot be read.
pub(super) fn paint(global: &Global) -> Paint {
    let env = Environment::read();
    let config =
        std::env::current_dir().ok().and_then(|dir| Config::load(&env, &global.settings(), &dir).ok());
    let wanted = match config.map_or(When::Auto, |config| config.color.value) {
        When::Always => true,
        When::Never => false,
        When::Auto => rustix::termios::isatty(io::stderr()) && env.has_capable_terminal() && !env.no_color(),
    };
    if wanted { Paint::Colour } else { Paint::Plain }
}

/// Prints to standard output.
pub(crate) fn print(text: &str) -> Result<(), Error> {
    print_bytes(text.as_bytes())
}

/// Writes bytes to standard output.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Error::io("write", "standard output")),
    }
}
