//! The only reader of the environment: `{ env: NAME }`, `{ file: PATH }` and `.env`.
//!
//! Values are taken once, after the YAML is parsed, and never looked into for expressions.
//! Invariant: no value is ever part of a message; a variable that is not set is no error here,
//! because offline commands go on without it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::files::Files;
use super::raw::{FromNode, raw};
use super::read::{Kind, Node};
use crate::model::{Diagnostic, Place, Placed, Problems, Value};

/// Which file of variables is read beside the real environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum EnvFile {
    /// `.env` at the root, if it is there.
    #[default]
    Default,
    /// None: `--env-file none`.
    Off,
    /// This file, which has to be there.
    At(PathBuf),
}

/// Variables of the process, then those of the file.
pub(super) struct Environment<'a> {
    real: &'a dyn Fn(&str) -> Option<String>,
    file: BTreeMap<String, String>,
    shown: Option<String>,
    /// The file, until it was said that others can read it.
    unjudged: Cell<Option<PathBuf>>,
}

impl<'a> Environment<'a> {
    /// Reads the file of variables.
    pub(super) fn open(
        real: &'a dyn Fn(&str) -> Option<String>,
        file: &EnvFile,
        cwd: &Path,
        root: &Path,
        problems: &mut Problems,
    ) -> Self {
        let (path, shown) = match file {
            EnvFile::Off => return Self::without_file(real, None),
            EnvFile::Default => (root.join(".env"), ".env".to_owned()),
            EnvFile::At(path) => (cwd.join(path), path.display().to_string()),
        };
        if *file == EnvFile::Default && !path.exists() {
            return Self::without_file(real, Some(shown));
        }
        let variables = match super::read::read_text(&path, &shown) {
            Ok(source) => variables(&source.text, &shown, problems),
            Err(finding) => {
                problems.push(*finding);
                BTreeMap::new()
            }
        };
        Self { real, file: variables, shown: Some(shown), unjudged: Cell::new(Some(path)) }
    }

    fn without_file(real: &'a dyn Fn(&str) -> Option<String>, shown: Option<String>) -> Self {
        Self { real, file: BTreeMap::new(), shown, unjudged: Cell::default() }
    }

    /// Says once that others can read the file, when a secret came from it.
    fn judge(&self, name: &Placed<String>, problems: &mut Problems) {
        if (self.real)(&name.value).is_some_and(|value| !value.is_empty()) {
            return;
        }
        if let (Some(path), Some(shown)) = (self.unjudged.take(), &self.shown) {
            readable_by_others(&path, shown, &name.place, problems);
        }
    }

    /// A variable that is set to something.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        let real = (self.real)(name).filter(|value| !value.is_empty());
        real.or_else(|| self.file.get(name).filter(|value| !value.is_empty()).cloned())
    }

    /// Where a variable was looked for.
    pub(super) fn looked_in(&self) -> String {
        match &self.shown {
            Some(file) => format!("looked in the environment and in {file}"),
            None => "looked in the environment".to_owned(),
        }
    }
}

/// `NAME=value` lines: comments, `export`, single and double quotes; nothing is expanded.
fn variables(text: &str, shown: &str, problems: &mut Problems) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=').filter(|(name, _)| is_name(name.trim())) else {
            problems.push(
                Diagnostic::error("env-file", format!("{shown} line {} is not NAME=value", at + 1))
                    .help("write one NAME=value a line; comments begin with `#`"),
            );
            continue;
        };
        found.insert(name.trim().to_owned(), unquoted(value.trim()));
    }
    found
}

fn is_name(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn unquoted(value: &str) -> String {
    for quote in ['"', '\''] {
        if let Some(rest) = value.strip_prefix(quote)
            && let Some((inner, after)) = rest.rsplit_once(quote)
            && (after.trim().is_empty() || after.trim_start().starts_with('#'))
        {
            return if quote == '"' { inner.replace("\\n", "\n") } else { inner.to_owned() };
        }
    }
    value.split(" #").next().unwrap_or(value).trim_end().to_owned()
}

/// The value of a setting as it was written.
#[derive(Debug, Clone)]
pub(super) enum RawSetting {
    /// In the file itself.
    Literal(Value, Place),
    /// `{ env: NAME }`
    Env(RawEnv),
    /// `{ file: PATH }`
    File(RawFile),
}

raw! {
    /// A setting from the environment.
    RawEnv, "`{ env: … }`" {
        /// The variable's name.
        env: Placed<String>,
        /// Whether the value must not be seen; true unless said.
        secret: Option<bool>,
    }
}

raw! {
    /// A setting from a file.
    RawFile, "`{ file: … }`" {
        /// The file: absolute, or relative to the project's root.
        file: Placed<String>,
        /// Whether the value must not be seen; true unless said.
        secret: Option<bool>,
    }
}

impl FromNode for RawSetting {
    fn read(node: &Node, what: &str, problems: &mut Problems) -> Option<Self> {
        match &node.kind {
            Kind::Map(_) if node.get("env").is_some() => RawEnv::read(node, what, problems).map(Self::Env),
            Kind::Map(_) if node.get("file").is_some() => RawFile::read(node, what, problems).map(Self::File),
            Kind::Map(_) => {
                problems.push(
                    Diagnostic::error("wrong-type", format!("`{what}` is a mapping, but has to be a value"))
                        .place(&node.place)
                        .help("write the value itself, `{ env: NAME }` or `{ file: PATH }`"),
                );
                None
            }
            _ => Some(Self::Literal(Value::read(node, what, problems)?, node.place.clone())),
        }
    }
}

impl schemars::JsonSchema for RawSetting {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Setting".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let (env, file) = (generator.subschema_for::<RawEnv>(), generator.subschema_for::<RawFile>());
        schemars::json_schema!({ "anyOf": [{ "type": ["string", "number", "boolean", "array"] }, env, file] })
    }
}

/// What became of looking for a value.
pub(super) enum Found {
    /// It is there.
    Value(String),
    /// It is not set: the variable or file that would give it.
    Unset(Placed<String>),
    /// It is there and wrong; the finding is noted.
    Bad,
}

/// The value of a variable.
pub(super) fn from_variable(raw: &RawEnv, env: &Environment<'_>, problems: &mut Problems) -> Found {
    let name = &raw.env;
    if !is_name(&name.value) {
        // A token pasted where its variable's name belongs must not be shown.
        let finding = Diagnostic::error("bad-value", "`env` does not hold the name of a variable");
        problems.push(
            finding
                .place(&super::secrets::hidden(&name.place))
                .help("write `{ env: NAME }`, not the value itself"),
        );
        return Found::Bad;
    }
    match env.get(&name.value) {
        None => Found::Unset(name.clone()),
        Some(value) => {
            if raw.secret != Some(false) {
                env.judge(name, problems);
            }
            checked(value, &name.value, &name.place, problems)
        }
    }
}

/// The value in a file. Its last line end belongs to the file, not to the value.
pub(super) fn from_file(raw: &RawFile, files: &Files, problems: &mut Problems) -> Found {
    let path = &raw.file;
    let full = if Path::new(&path.value).is_absolute() {
        PathBuf::from(&path.value)
    } else {
        match files.inside(&path.value) {
            Ok(full) => full,
            Err(finding) => {
                problems.push(finding.place(&path.place));
                return Found::Bad;
            }
        }
    };
    if !full.exists() {
        return Found::Unset(path.clone());
    }
    let text = match super::read::read_text(&full, &path.value) {
        Ok(source) => source.text.clone(),
        Err(finding) => {
            problems.push(finding.place(&path.place));
            return Found::Bad;
        }
    };
    if raw.secret != Some(false) {
        readable_by_others(&full, &path.value, &path.place, problems);
    }
    let value = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if value.is_empty() {
        return Found::Unset(path.clone());
    }
    checked(value.to_owned(), &path.value, &path.place, problems)
}

#[cfg(unix)]
pub(super) fn readable_by_others(full: &Path, shown: &str, place: &Place, problems: &mut Problems) {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(about) = std::fs::metadata(full) else { return };
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        problems.push(
            Diagnostic::warning(
                "secret-file-open",
                format!("the secret file {shown} can be read by others (mode {mode:04o})"),
            )
            .place(place)
            .help(format!("chmod 600 {shown}")),
        );
    }
}

#[cfg(not(unix))]
pub(super) fn readable_by_others(_: &Path, _: &str, _: &Place, _: &mut Problems) {}

/// Refuses what no header can carry, without showing it. A PEM, which signs and is never sent, is text
/// of many lines.
fn checked(value: String, name: &str, place: &Place, problems: &mut Problems) -> Found {
    let is_pem = value.starts_with("-----BEGIN ") && value.contains("-----END ");
    if is_pem && value.chars().all(|c| matches!(c, '\n' | '\r') || !c.is_control()) {
        return Found::Value(value);
    }
    let what = if value.ends_with('\n') {
        "ends in a newline"
    } else if value.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Found::Value(value);
    };
    problems.push(
        Diagnostic::error("variable-unusable", format!("the value of {name} {what}"))
            .place(place)
            .help("set it again without, for example with `printf %s` instead of `echo`"),
    );
    Found::Bad
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn env_files_hold_quotes_comments_and_no_expansion() {
        let mut problems = Problems::new();
        let text = "# c\nA=1\nexport B=\"x y\" # c\nC='$A {{ x }}'\nD=\n E = f # c\nbroken\n1X=2\n";
        let found = variables(text, ".env", &mut problems);
        let want = [("A", "1"), ("B", "x y"), ("C", "$A {{ x }}"), ("D", ""), ("E", "f")];
        assert_eq!(found, want.map(|(name, value)| (name.into(), value.into())).into());
        let messages: Vec<_> = problems.all().iter().map(|found| found.message.as_str()).collect();
        assert_eq!(messages, [".env line 7 is not NAME=value", ".env line 8 is not NAME=value"]);
    }

    #[test]
    fn the_real_environment_wins_and_empty_is_unset() {
        let real =
            |name: &str| (name != "B").then(|| if name == "C" { String::new() } else { "real".into() });
        let file = [("A", "file"), ("B", "file"), ("C", "file")];
        let file = file.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let env = Environment { file, ..Environment::without_file(&real, None) };
        assert_eq!(["A", "B", "C"].map(|name| env.get(name).unwrap()), ["real", "file", "file"]);
    }
}
