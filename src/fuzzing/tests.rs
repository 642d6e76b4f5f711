//! Every seed, and every input that once broke a property, holds it now.

use std::path::Path;

/// Runs a target on the files of its folders.
fn hold(name: &str, target: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    if !fuzz.exists() {
        // A package from a registry has no fuzz targets.
        return;
    }
    let mut seeds = 0;
    for folder in ["seeds", "regressions"] {
        let Ok(files) = std::fs::read_dir(fuzz.join(folder).join(name)) else { continue };
        for file in files.flatten() {
            let data = std::fs::read(file.path()).unwrap();
            let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target(&data)));
            assert!(held.is_ok(), "{folder}/{name}/{}", file.file_name().to_string_lossy());
            seeds += usize::from(folder == "seeds");
        }
    }
    assert!(seeds >= 3, "{name} has {seeds} seeds");
}

macro_rules! targets {
    ($($name:ident),*) => { $(
        #[test]
        fn $name() {
            hold(stringify!($name), super::$name);
        }
    )* };
}

targets!(checkpoint, csv, ndjson, path, reply, retry_after, schema, template, yaml);

/// A quick look at what a fuzzer looks at for hours: no input but chance.
#[test]
fn bytes_of_chance_keep_every_property() {
    let mut chance = fastrand::Rng::with_seed(7);
    for round in 0..400 {
        let length = chance.usize(0..200);
        let data: Vec<u8> = std::iter::repeat_with(|| chance.u8(..)).take(length).collect();
        for target in [super::csv, super::ndjson, super::path, super::reply, super::retry_after] {
            target(&data);
        }
        if round % 4 == 0 {
            for target in [super::checkpoint, super::schema, super::template, super::yaml] {
                target(&data);
            }
        }
    }
}

/// T14 by chance alone; `FUZZ_OPENS=100000` is the whole of it.
#[test]
fn a_damaged_checkpoint_is_refused_or_exact() {
    let opens = std::env::var("FUZZ_OPENS").ok().and_then(|opens| opens.parse().ok()).unwrap_or(600);
    let mut chance = fastrand::Rng::with_seed(opens);
    for _ in 0..opens {
        let mut data = vec![chance.u8(1..6)];
        let length = 4 * chance.usize(1..5);
        data.extend(std::iter::repeat_with(|| chance.u8(..)).take(length));
        let held = std::panic::catch_unwind(|| super::checkpoint(&data));
        assert!(held.is_ok(), "{data:?}");
    }
}
