//! The validators: from what a source said to what it means, or why not.

use crate::definition::Definition;
use crate::environment::{Environment, Host};
use crate::resolver::SettingError;
use crate::value::{Raw, Source, Value};

pub(crate) fn validate(
    definition: &'static Definition,
    raw: Raw,
    source: &Source,
    environment: &Environment,
    host: &dyn Host,
) -> Result<Value, SettingError> {
    let _ = (definition, raw, source, environment, host);
    todo!("validators")
}
