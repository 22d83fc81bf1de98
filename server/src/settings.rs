//! From the sources of the configuration to what it means: settings, and the access control that they ask for with its keys
//! read. This is where the environment and the settings file are read.

use std::{fs, path::PathBuf, sync::Arc};

use tailwire_access::AccessError;

use crate::{
    access::Gate,
    config::{self, ConfigError, Environment, FileText, ServeArgs, ServeSettings},
    machine,
};

/// See the module.
pub(crate) struct Configured {
    pub(crate) settings: ServeSettings,
    pub(crate) gate: Option<Arc<Gate>>,
}

/// Settles everything that can be wrong in a configuration.
///
/// # Errors
/// The first thing that is.
pub(crate) fn configured(args: &ServeArgs) -> Result<Configured, ConfigError> {
    let sources = Sources::read(args)?;
    let settings = sources.settle(args)?;
    let gate = settings.access.as_ref().map(Gate::new).transpose();
    let gate = gate.map_err(|error| sources.blame(error))?.map(Arc::new);
    Ok(Configured { settings, gate })
}

/// Reads the configuration again, and puts its access control in force.
///
/// # Errors
/// The fault in it; then the earlier one goes on.
pub(crate) fn read_again(args: &ServeArgs, gate: &Gate) -> Result<(), ConfigError> {
    let sources = Sources::read(args)?;
    let access = sources.settle(args)?.access.ok_or_else(|| {
        let problem = "the section is gone: without it everybody may do everything, which takes a restart";
        sources.blame(AccessError { at: "access".to_owned(), problem: problem.to_owned() })
    })?;
    gate.reload(&access).map_err(|error| sources.blame(error))
}

struct Sources {
    environment: Environment,
    file: Option<(PathBuf, String)>,
}

impl Sources {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is where the environment is read, for everything behind it"
    )]
    fn read(args: &ServeArgs) -> Result<Self, ConfigError> {
        let environment = Environment::new(std::env::vars_os());
        let Some((path, origin)) = config::file_path(args, &environment) else {
            return Ok(Self { environment, file: None });
        };
        let text = fs::read_to_string(&path).map_err(|error| {
            let problem = machine::describe(&error);
            ConfigError::Unreadable { origin, path: path.clone(), problem }
        })?;
        Ok(Self { environment, file: Some((path, text)) })
    }

    fn settle(&self, args: &ServeArgs) -> Result<ServeSettings, ConfigError> {
        let file = self.file.as_ref().map(|(path, text)| FileText { path, text });
        config::settle(args, &self.environment, file)
    }

    /// The line of what is wrong in the section `[access]`, which stands in files only.
    fn blame(&self, error: AccessError) -> ConfigError {
        let (path, text) = self.file.clone().unwrap_or_default();
        ConfigError::Access { line: config::line_of_key(&text, &error.at), path, error }
    }
}
