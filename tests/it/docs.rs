//! The documents against the program: their commands run, their paths exist, their tables are
//! complete, and the code keeps the direction that they describe.
//!
//! `UPDATE_DOCS=1 cargo test --test it docs` writes the `console` blocks of README.md anew from
//! real runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::world::without_run_ids;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Rust files below `src`, relative to the root, with `/`.
fn sources() -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("src").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    assert!(found.len() > 100, "{}", found.len());
    found
}

/// Fenced blocks: what stands behind the fence, the text, and where the text begins.
fn blocks(text: &str) -> Vec<(&str, &str, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(open) = text[at..].find("```") {
        let info = at + open + 3;
        let begin = info + text[info..].find('\n').expect("a line below the fence") + 1;
        let end = begin + text[begin..].find("```").expect("a closing fence");
        found.push((text[info..begin].trim(), &text[begin..end], begin));
        at = end + 3;
    }
    found
}

/// What stands in backticks, outside of fenced blocks.
fn code_words(text: &str) -> BTreeSet<&str> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    prose.into_iter().flat_map(|part| part.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn every_path_in_the_documents_exists() {
    let folders = ["src/", "docs/", "tests/", "schemas/", "templates/", "pipelines/", ".ci/"];
    for (document, least) in [
        ("docs/ARCHITECTURE.md", 70),
        ("README.md", 5),
        ("CONTRIBUTING.md", 3),
        ("docs/adding-an-endpoint.md", 2),
        ("docs/connectors.md", 10),
        ("docs/why.md", 1),
    ] {
        let text = read(document);
        let named: Vec<&str> = code_words(&text)
            .into_iter()
            .filter(|word| folders.iter().any(|folder| word.starts_with(folder)))
            .filter(|word| !word.contains(['<', '*', ' ', '$', '{']))
            .collect();
        assert!(named.len() >= least, "{document} names {} paths", named.len());
        for path in named {
            assert!(root().join(path).exists(), "{document} names {path}, which is not there");
        }
    }
}

#[test]
fn every_folder_and_module_of_the_source_is_on_the_map() {
    let map = read("docs/ARCHITECTURE.md");
    for entry in fs::read_dir(root().join("src")).expect("src").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let named = if entry.path().is_dir() { format!("`src/{name}/`") } else { format!("`src/{name}`") };
        if !["main.rs", "lib.rs"].contains(&name.as_str()) {
            assert!(map.contains(&named), "docs/ARCHITECTURE.md does not name {named}");
        }
    }
}

/// `cli` → `engine` → stages → `config` → `model`: what a module may use, with the exceptions.
fn allowed(module: &str) -> &'static [&'static str] {
    match module {
        "model" | "git" => &[],
        "config" | "schema" | "dedupe" | "sandbox" | "report" => &["model"],
        "source" | "render" | "outcome" => &["config", "model"],
        // `where` and `rename` are expressions; types of cells come from the schema; a cell that
        // should be a list is read by the parser that reads JSON records.
        "select" => &["config", "model", "render", "schema", "source"],
        // Rules over replies are expressions; a reply is read by the parser that reads JSON
        // records, so that its numbers keep their digits too.
        "deliver" => &["config", "model", "render", "source"],
        // `sandbox` is for `engine::stand_in` alone, see below.
        "engine" => &[
            "config", "dedupe", "deliver", "git", "model", "outcome", "render", "sandbox", "schema",
            "select", "source",
        ],
        "cli" => &[
            "config", "dedupe", "deliver", "engine", "model", "outcome", "render", "report", "sandbox",
            "schema", "select", "source",
        ],
        // Asks every stage, and is built for tests and fuzzers alone.
        "fuzzing" => &["config", "deliver", "model", "outcome", "render", "schema", "source"],
        other => panic!("say in tests/it/docs.rs what the new module `{other}` may use"),
    }
}

#[test]
fn uses_point_down() {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for path in sources() {
        let inside = path.trim_start_matches("src/");
        let module = inside.split(['/', '.']).next().expect("a name").to_owned();
        if ["main", "lib"].contains(&module.as_str()) {
            continue;
        }
        for (number, line) in read(&path).lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for rest in line.split("crate::").skip(1) {
                let used: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
                let place = format!("{path}:{}", number + 1);
                assert!(
                    !used.is_empty(),
                    "{place}: one `use crate::…` a line, so that this test can read it"
                );
                if used == module {
                    continue;
                }
                assert!(allowed(&module).contains(&used.as_str()), "{place}: `{module}` uses `{used}`");
                let parser_only = used == "source" && ["deliver", "select"].contains(&module.as_str());
                assert!(
                    !parser_only || rest.contains("parse_json"),
                    "{place}: `{module}` may use only `parse_json` of `source`"
                );
                assert!(
                    used != "sandbox" || module != "engine" || path.starts_with("src/engine/stand_in"),
                    "{place}: only `engine::stand_in` knows the sandbox"
                );
                seen.entry(module.clone()).or_default().insert(used);
            }
        }
    }
    // The test reads what it thinks it reads.
    assert!(seen["engine"].contains("deliver") && seen["cli"].contains("engine"), "{seen:?}");
}

#[test]
fn only_one_file_names_each_of_the_wrapped_crates() {
    for (krate, homes) in [
        ("reqwest", &["src/deliver/send.rs"][..]),
        ("serde_yaml", &["src/config/read.rs"]),
        ("indicatif", &["src/report/progress.rs"]),
        ("git2", &["src/git.rs"]),
        (
            "minijinja",
            &[
                "src/render/engine.rs",
                "src/render/filters.rs",
                "src/render/convert.rs",
                "src/render/tables.rs",
            ],
        ),
    ] {
        let mut found = 0;
        for path in sources() {
            let text = read(&path);
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            // Tests may look from outside.
            let code: Vec<&str> = lines.take_while(|line| !line.contains("#[cfg(test)]")).collect();
            let names = code.iter().any(|line| line.contains(&format!("{krate}::")));
            let is_test = path.contains("/tests");
            assert!(!names || is_test || homes.contains(&path.as_str()), "{path} names {krate}");
            found += usize::from(names);
        }
        assert!(found > 0, "nothing names {krate}");
    }
}

#[test]
fn why_has_a_line_for_every_crate() {
    let manifest = read("Cargo.toml");
    let why = read("docs/why.md");
    let mut inside = false;
    let mut count = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).ends_with("dependencies");
        }
        let Some((name, _)) = line.split_once(" = ") else { continue };
        if inside && !name.starts_with('#') {
            assert!(why.contains(&format!("`{name}`")), "docs/why.md says nothing of {name}");
            count += 1;
        }
    }
    assert!(count > 30, "{count}");
}

/// The names of all properties in a JSON Schema.
fn properties(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| properties(value, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| properties(item, found)),
        _ => {}
    }
}

#[test]
fn every_key_of_the_project_files_is_in_the_reference() {
    let reference = read("docs/pipelines.md");
    // A key stands in backticks by itself, before a colon, or in a list of keys.
    let words: BTreeSet<String> = code_words(&reference)
        .into_iter()
        .flat_map(|code| code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned))
        .collect();
    for kind in ["runner", "connector", "endpoint", "pipeline"] {
        let schema = serde_json::from_str(&read(&format!("schemas/runner/{kind}.schema.json")))
            .expect("a published schema");
        let mut keys = BTreeSet::new();
        properties(&schema, &mut keys);
        assert!(keys.len() > 5, "{kind}: {keys:?}");
        for key in keys {
            assert!(words.contains(&key), "docs/pipelines.md does not name `{key}` ({kind})");
        }
    }
}

/// A folder with the files of this repository that are a project.
fn project() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["runner.yaml", ".env.example", "templates", "schemas", "pipelines"] {
        copy(&root().join(name), &folder.path().join(name));
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        fs::create_dir_all(to).expect("a folder");
        for entry in fs::read_dir(from).expect("a folder").flatten() {
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }
}

/// Writes the blocks whose first line is `# path` as files.
fn write_files(text: &str, folder: &Path) -> usize {
    let mut count = 0;
    for (_, block, _) in blocks(text) {
        let Some((first, rest)) = block.split_once('\n') else { continue };
        let Some(path) = first.strip_prefix("# ").filter(|path| path.contains('.') && !path.contains(' '))
        else {
            continue;
        };
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, rest).expect("a file");
        count += 1;
    }
    count
}

/// Runs a line in a shell that knows `runner`: exit code, and stdout and stderr as they came.
fn shell(line: &str, folder: &Path) -> (i32, String) {
    finish(start(line, folder))
}

struct Started {
    child: std::process::Child,
    output: std::io::PipeReader,
}

fn start(line: &str, folder: &Path) -> Started {
    let binary = Path::new(env!("CARGO_BIN_EXE_runner")).parent().expect("a folder");
    let (output, writer) = std::io::pipe().expect("a pipe");
    // `exec`, so that a signal reaches the program and not the shell.
    let line = if line.starts_with("runner ") { format!("exec {line}") } else { line.to_owned() };
    let child = Command::new("sh")
        .args(["-c", &line])
        .current_dir(folder)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", binary.display()))
        .env("HOME", folder)
        .stdin(Stdio::null())
        .stdout(writer.try_clone().expect("a pipe"))
        .stderr(writer)
        .spawn()
        .expect("a shell");
    Started { child, output }
}

fn finish(mut started: Started) -> (i32, String) {
    use std::os::unix::process::ExitStatusExt as _;
    let mut text = String::new();
    started.output.read_to_string(&mut text).expect("text");
    let status = started.child.wait().expect("an end");
    (status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)), text)
}

/// Runs a line and interrupts it once the far side has stored some of what it sent.
fn interrupted(line: &str, folder: &Path) -> (i32, String) {
    let mut started = start(line, folder);
    let store = folder.join(".runner/sandbox/objects/freshchat");
    let size = || fs::metadata(&store).map_or(0, |found| found.len());
    let enough = size() + 16 * 1024;
    while size() < enough && started.child.try_wait().is_ok_and(|ended| ended.is_none()) {
        std::thread::yield_now();
    }
    let process = rustix::process::Pid::from_child(&started.child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).expect("a signal");
    finish(started)
}

/// A line without what differs from run to run.
fn plain(line: &str, interrupted: bool) -> String {
    let mut line = without_run_ids(line);
    if let (Some(from), Some(to)) = (line.rfind(" in "), line.rfind("/s)"))
        && from < to
    {
        line.replace_range(from..to + 3, " in [TIME]");
    }
    if let Some((before, after)) = line.split_once("last start  ")
        && let Some((_, how)) = after.split_once(',')
    {
        line = format!("{before}last start  [WHEN],{how}");
    }
    if let Some(at) = line.find("127.0.0.1:") {
        let port = at + "127.0.0.1:".len();
        let end = line[port..].find(|c: char| !c.is_ascii_digit()).map_or(line.len(), |end| port + end);
        line.replace_range(port..end, "[PORT]");
    }
    if interrupted {
        // How far it came is a matter of time.
        line.retain(|c| !c.is_ascii_digit() && c != ',');
        line = line.replace("requests", "request").replace("records", "record");
        // The same when no request was under way just then.
        line = line.replace("(SIGINT): stopping", "(SIGINT): finishing  request");
    }
    line.trim_end().to_owned()
}

fn comparable(text: &str, interrupted: bool) -> Vec<String> {
    text.lines()
        // Progress off a terminal: a line every ten seconds, if it takes so long.
        .filter(|line| !(line.contains(" records (") && line.contains("%)")))
        .map(|line| plain(line, interrupted))
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_tour_of_the_readme_is_what_happens() {
    let text = read("README.md");
    let folder = project();
    let mut code = 0;
    let mut commands = 0;
    let mut after_interrupt = false;
    let mut renewed = String::new();
    let mut copied = 0;
    for (info, block, at) in blocks(&text) {
        if info != "console" {
            continue;
        }
        renewed.push_str(&text[copied..at]);
        copied = at + block.len();
        for step in block.split("$ ").skip(1) {
            let (line, expected) = step.split_once('\n').expect("a command line");
            let (stop, expected) = match expected.strip_prefix("^C\n") {
                Some(rest) => (true, rest),
                None => (false, expected),
            };
            after_interrupt |= stop;
            let (ended, output) = match line {
                "echo $?" => (code, format!("{code}\n")),
                line if stop => interrupted(line, folder.path()),
                line => shell(line, folder.path()),
            };
            code = ended;
            commands += 1;
            let loose = after_interrupt && line != "echo $?";
            let (want, got) = (comparable(expected, loose), comparable(&output, loose));
            if std::env::var_os("UPDATE_DOCS").is_none() {
                assert_eq!(want, got, "\n$ {line}\nreally says:\n{output}");
            }
            let mark = if stop { "^C\n" } else { "" };
            // A block that says the same but for ids and times stays as it is.
            let output = if want == got && !loose { expected.to_owned() } else { output };
            renewed.extend(["$ ", line, "\n", mark, &output]);
        }
    }
    renewed.push_str(&text[copied..]);
    assert!(commands >= 5, "{commands}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join("README.md"), renewed).expect("README.md");
    }
}

#[test]
fn the_first_commands_of_the_readme_do_what_it_says() {
    let text = read("README.md");
    let lines: Vec<&str> = blocks(&text)
        .into_iter()
        .filter(|(info, _, _)| *info == "sh")
        .flat_map(|(_, block, _)| block.lines())
        .map(|line| line.split(" #").next().unwrap_or(line).trim())
        .filter(|line| !line.is_empty())
        .collect();
    // This test is a part of it.
    assert!(lines.contains(&"cargo test"), "{lines:?}");
    let job = lines
        .iter()
        .find_map(|line| line.strip_prefix("cargo run --release -- "))
        .expect("the README runs the main job");
    let folder = project();
    let (code, output) = shell(&format!("runner {job}"), folder.path());
    assert_eq!(code, 0, "{output}");
    assert!(
        output.contains("1,219 delivered, 0 failed, 0 invalid, 31 skipped, 0 in doubt of 1,250"),
        "{output}"
    );
}

#[test]
fn every_command_in_the_documents_has_these_arguments() {
    let folder = project();
    let mut looked_at = 0;
    let mut documents = vec!["README.md".to_owned(), "CONTRIBUTING.md".to_owned()];
    for entry in fs::read_dir(root().join("docs")).expect("docs").flatten() {
        documents.push(format!("docs/{}", entry.file_name().to_string_lossy()));
    }
    for document in documents {
        let text = read(&document);
        for (_, block, _) in blocks(&text).into_iter().filter(|(info, _, _)| *info == "sh") {
            for line in block.lines() {
                let line = line.split(" #").next().unwrap_or(line).trim();
                if let Some(command) = line.strip_prefix("runner ") {
                    // What needs an account or a file is only read, not done.
                    let (code, output) = shell(&format!("runner {command} --help"), folder.path());
                    assert!(code == 0, "{document}: {line}\n{output}");
                    looked_at += 1;
                }
            }
        }
    }
    assert!(looked_at >= 10, "{looked_at}");
}

#[test]
fn the_small_project_of_the_reference_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(write_files(&read("docs/pipelines.md"), folder.path()), 6);
    let (code, output) = shell("runner apply greet --sandbox", folder.path());
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("1 delivered, 0 failed, 0 invalid, 1 skipped"), "{output}");
    let (code, output) = shell("runner apply in-place --sandbox", folder.path());
    assert_eq!(code, 0, "{output}");
    assert!(output.contains("2 delivered"), "{output}");
}

#[test]
fn the_endpoint_of_the_checklist_runs() {
    let folder = project();
    assert_eq!(write_files(&read("docs/adding-an-endpoint.md"), folder.path()), 7);
    let (code, output) = shell("runner apply open-tickets --sandbox", folder.path());
    assert_eq!(code, 1, "{output}");
    assert!(output.contains("2 delivered, 0 failed, 1 invalid"), "{output}");
}

#[test]
fn the_sandbox_page_has_the_tables_of_its_source() {
    let page = read("docs/sandbox.md");
    let source = read("src/sandbox/script.rs");
    let rows: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! "))
        .filter(|line| line.starts_with('|') || line.contains(" -> "))
        .collect();
    assert!(rows.len() > 25, "{}", rows.len());
    for row in rows {
        assert!(page.contains(row), "docs/sandbox.md lacks\n{row}");
    }
}

/// The newest file below a folder with this ending.
fn find(folder: &Path, ending: &str) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|found| found == ending))
        .expect("a file")
}

#[test]
fn the_page_about_the_checkpoint_knows_its_tables_and_its_queries_run() {
    let page = read("docs/checkpoint.md");
    let folder = project();
    let (_, output) = shell("runner apply update-agents --sandbox --limit 20", folder.path());
    let database = find(&folder.path().join(".runner/sandbox/state"), "db");
    let database = rusqlite::Connection::open(database).expect(&output);

    let mut tables = database
        .prepare("SELECT m.name, p.name FROM sqlite_schema m, pragma_table_info(m.name) p WHERE m.type IN ('table', 'view')")
        .expect("a query");
    let columns = tables
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))
        .expect("columns");
    let words = code_words(&page);
    let mut count = 0;
    for column in columns {
        let (table, column) = column.expect("a column");
        assert!(words.contains(table.as_str()), "docs/checkpoint.md lacks the table `{table}`");
        assert!(words.contains(column.as_str()), "docs/checkpoint.md lacks `{column}` of `{table}`");
        count += 1;
    }
    assert!(count > 50, "{count}");

    let mut queries = 0;
    for (info, block, _) in blocks(&page) {
        if info == "sql" {
            for query in block.split(';').map(str::trim).filter(|query| !query.is_empty()) {
                let mut statement =
                    database.prepare(query).unwrap_or_else(|error| panic!("{query}\n{error}"));
                let mut rows = statement.query([]).expect(query);
                while rows.next().expect(query).is_some() {}
                queries += 1;
            }
        }
    }
    assert!(queries >= 6, "{queries}");
}
