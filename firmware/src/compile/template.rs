//! Templates of the daemons' files: `/templates/<daemon>/<file>`, compiled into the program. What they print is
//! always a literal of the file's language, never pasted text, so no value can change what a file means.
//! Called by the compilers of services.

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use serde::Serialize;

/// A template could not be filled in: a fault of the template or of the values given to it.
#[derive(Debug, thiserror::Error)]
#[error("template {name}: {reason}")]
pub struct TemplateError {
    pub name: String,
    pub reason: String,
}

/// Fills in a template. Each `{{ value }}` prints as a JSON literal, which is one of TOML and of YAML too: text
/// quoted and escaped, numbers and booleans bare, lists in brackets. Maps print as flow maps (YAML only).
/// `{{ value | safe }}` prints as it is, for text that was made by a serialiser. A name that is not there, and a
/// null, are errors: templates ask with `{% if x is not none %}`.
pub fn render(name: &str, source: &str, values: impl Serialize) -> Result<String, TemplateError> {
    let fault = |error: Error| TemplateError { name: name.to_owned(), reason: format!("{error:#}") };
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_keep_trailing_newline(true);
    environment.add_filter("safe", minijinja::filters::safe);
    environment.add_filter("length", minijinja::filters::length);
    environment.add_test("none", minijinja::tests::is_none);
    environment.set_formatter(literal);
    let values = Value::from_serialize(values);
    environment.render_named_str(name, source, values).map_err(fault)
}

fn literal(out: &mut Output<'_>, _: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_safe() {
        return Ok(out.write_str(&value.to_string())?);
    }
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => {
            Err(Error::new(ErrorKind::BadSerialization, "a value is missing or null"))
        }
        _ => {
            let text = serde_json::to_string(value)
                .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))?;
            // TOML takes every character that JSON takes in a string but this one.
            Ok(out.write_str(&text.replace('\u{7f}', "\\u007f"))?)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    #[test]
    fn values_print_as_literals_and_cannot_break_out() {
        let values = json!({ "name": "a\"\nuser = \"root", "port": 53, "on": true, "rate": 16.5, "list": ["a", "b\\"] });
        let text = "n = {{ name }}\np = {{ port }}\no = {{ on }}\nr = {{ rate }}\nl = {{ list }}\n";
        assert_eq!(
            render("t", text, values).unwrap(),
            "n = \"a\\\"\\nuser = \\\"root\"\np = 53\no = true\nr = 16.5\nl = [\"a\",\"b\\\\\"]\n"
        );
    }

    #[test]
    fn absent_and_null_values_are_errors() {
        assert!(render("t", "{{ nothing }}", json!({})).unwrap_err().to_string().starts_with("template t: "));
        assert!(render("t", "{{ nothing }}", json!({ "nothing": null })).is_err());
        let asked = "{% if x is not none %}\nx = {{ x }}\n{% endif %}\n";
        assert_eq!(render("t", asked, json!({ "x": null })).unwrap(), "");
        assert_eq!(render("t", asked, json!({ "x": 1 })).unwrap(), "x = 1\n");
    }
}
