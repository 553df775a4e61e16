//! `--print-config`: every setting as it was resolved.

use crate::settings::Settings;
use crate::value::Value;

impl Settings {
    /// One line per setting, `name = value`, aligned and sorted by name. `show_object` names the Python object behind a
    /// handle; Gunicorn shows a callable as `<its_name()>`.
    pub fn print_config(&self, show_object: impl Fn(u32) -> String) -> String {
        let mut entries: Vec<(&str, &Value)> = self.iter().collect();
        entries.sort_unstable_by_key(|(name, _)| *name);
        let width = entries
            .iter()
            .map(|(name, _)| name.len())
            .max()
            .unwrap_or_default();
        let line = |(name, value): (&str, &Value)| match value {
            Value::Object(object) => format!("{name:width$} = {}\n", show_object(*object)),
            _ => format!("{name:width$} = {value}\n"),
        };
        entries.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::resolve;
    use crate::value::Raw;

    #[test]
    fn prints_every_setting_aligned_and_sorted() {
        let settings = resolve(&[
            ("on_exit", Raw::Object(7, Some(1))),
            ("accesslog", Raw::Str("-".into())),
        ]);
        let text = settings.print_config(|object| format!("<hook{object}()>"));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), crate::TABLE.len());
        assert!(lines.is_sorted());
        for expected in [
            "accesslog                          = -",
            "bind                               = ['127.0.0.1:8000']",
            "control_socket_mode                = 384",
            "on_exit                            = <hook7()>",
            "pidfile                            = None",
            "preload_app                        = False",
        ] {
            assert!(
                lines.contains(&expected),
                "{expected} is missing in\n{text}"
            );
        }
    }
}
