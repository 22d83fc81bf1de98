//! Keeps the dependency arrows of the design: what a crate must not know, it can't reach.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is its report")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::{CargoOpt, DependencyKind, Metadata, MetadataCommand, Package, PackageId};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Every crate of the workspace, with those that it may name as a dependency of any kind. The binary and the tests see
/// everything, and nothing sees them. The load generator is a client, and knows the broker from outside only.
const ARROWS: [(&str, &[&str]); 11] = [
    ("tailwire-model", &[]),
    ("tailwire-access", &["tailwire-model"]),
    ("tailwire-core", &["tailwire-model"]),
    ("tailwire-storage", &["tailwire-core", "tailwire-model"]),
    // Its tests hold replicas against each other, over the stores there are.
    ("tailwire-jetstream", &["tailwire-core", "tailwire-model", "tailwire-storage"]),
    ("tailwire-wire", &["tailwire-model"]),
    ("tailwire-http", &["tailwire-core", "tailwire-wire", "tailwire-model"]),
    ("tailwire-outbound", &["tailwire-access", "tailwire-model"]),
    ("tailwire-load", &[]),
    ("tailwire", &ALL),
    ("tailwire-tests", &ALL),
];
const ALL: [&str; 9] = [
    "tailwire-model",
    "tailwire-access",
    "tailwire-core",
    "tailwire-storage",
    "tailwire-jetstream",
    "tailwire-wire",
    "tailwire-http",
    "tailwire-outbound",
    "tailwire-load",
];

/// The crates that a crate must not reach, also not through another one: engines, formats, sockets and runtimes that
/// belong to somebody else.
const FORBIDDEN: [(&str, &[&str]); 8] = [
    ("tailwire-model", &["tokio", "serde", "serde_json", "sled", "hyper", "axum", "tokio-tungstenite"]),
    ("tailwire-access", &["tokio", "hyper", "axum", "http", "sled", "tokio-tungstenite", "mio", "socket2"]),
    ("tailwire-core", &["serde_json", "hyper", "axum", "http", "sled", "async-nats", "tokio-tungstenite"]),
    ("tailwire-storage", &["serde_json", "hyper", "axum", "http", "tokio-tungstenite"]),
    ("tailwire-wire", &["tokio", "hyper", "axum", "sled", "tokio-tungstenite"]),
    ("tailwire-http", &["sled", "async-nats", "ureq"]),
    ("tailwire-jetstream", &["hyper", "axum", "http", "sled"]),
    ("tailwire-outbound", &["sled", "axum", "tokio-tungstenite", "tailwire-core"]),
];

/// Links that a feature brings which only one crate of the workspace asks for: cargo builds a package once, with the features of
/// all, so every other crate has them too, and takes nothing of them.
const BY_FEATURES_OF_OTHERS: [(&str, &str); 1] = [("bytes", "serde")];

#[test]
fn crates_depend_only_along_the_arrows() {
    let metadata = metadata();
    let allowed: BTreeMap<_, _> = ARROWS.into_iter().collect();
    let ours: BTreeSet<&str> =
        metadata.workspace_packages().iter().map(|package| package.name.as_str()).collect();
    for package in metadata.workspace_packages() {
        let name = package.name.as_str();
        let allowed =
            allowed.get(name).unwrap_or_else(|| panic!("{name} has no arrows yet: give it some here"));
        for dependency in &package.dependencies {
            let to = dependency.name.as_str();
            // A crate's tests may ask for its own features.
            let is_foreign = !ours.contains(to) || to == name;
            assert!(is_foreign || allowed.contains(&to), "{name} must not depend on {to}");
        }
    }
}

#[test]
fn crates_reach_nothing_forbidden() {
    let metadata = metadata();
    for (name, forbidden) in FORBIDDEN {
        let package = package(&metadata, name);
        let reached = reached_from(&metadata, &package.id);
        for word in forbidden {
            assert!(
                !reached.contains(word),
                "{name} must not reach {word}: see `cargo tree -p {name} -i {word}`"
            );
        }
    }
}

#[test]
fn versions_stand_in_the_workspace_only() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        let text = fs::read_to_string(&package.manifest_path).unwrap();
        for (line, dependency) in dependency_lines(&text) {
            let inherits = dependency.contains("workspace = true");
            assert!(inherits, "{}:{line}: take it from the workspace: {dependency}", package.manifest_path);
        }
    }
}

#[test]
fn files_are_short_enough_to_read() {
    /// The style asks for about 400 lines; this leaves room for "about", and none for a file that does two things.
    const LINES_MAX: usize = 500;
    for package in metadata().workspace_packages() {
        for path in sources(&package.manifest_path.with_file_name("src").into_std_path_buf()) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(
                lines <= LINES_MAX,
                "{} has {lines} lines: what in it is a thing of its own?",
                path.display()
            );
        }
    }
}

#[test]
fn types_of_the_product_have_names_of_their_own() {
    let mut files: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for package in metadata().workspace_packages().iter().filter(|package| package.name != "tailwire-tests") {
        for path in sources(&package.manifest_path.with_file_name("src").into_std_path_buf()) {
            let is_test = path.file_name().is_some_and(|name| name == "tests.rs");
            let text = if is_test { String::new() } else { fs::read_to_string(&path).unwrap() };
            type_names(&text).for_each(|name| files.entry(name.to_owned()).or_default().push(path.clone()));
        }
    }
    files.retain(|_, files| files.len() > 1);
    assert!(files.is_empty(), "each of these names stands for several types: {files:#?}");
}

#[test]
fn a_types_name_is_found_before_the_tests() {
    let text = "pub(crate) struct A<T>;\nenum B {}\n  struct Inner;\npub trait C: D {}\n#[cfg(test)]\nmod tests {\nstruct E;";
    assert!(type_names(text).eq(["A", "B", "C"]));
}

/// The names of the types of a file, without those within functions and tests.
fn type_names(text: &str) -> impl Iterator<Item = &str> {
    let product = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    product.lines().filter_map(|line| {
        let (_, declared) = match line.split_once(' ')? {
            (visibility, rest) if visibility.starts_with("pub") => (visibility, rest),
            _ => ("", line),
        };
        let (keyword, rest) = declared.split_once(' ')?;
        let is_type = matches!(keyword, "struct" | "enum" | "trait" | "union");
        is_type.then(|| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()).flatten()
    })
}

#[test]
fn a_manifest_that_names_a_version_is_seen() {
    let manifest = "[package]\nversion = '1'\n[dependencies]\nbytes.workspace = true\n# why\n\n[dev-dependencies]\nrand = '0.9'\n";
    assert_eq!(dependency_lines(manifest), [(4, "bytes.workspace = true"), (8, "rand = '0.9'")]);
}

fn metadata() -> Metadata {
    let mut command = MetadataCommand::new();
    command.manifest_path(Path::new(ROOT).join("Cargo.toml"));
    command.features(CargoOpt::AllFeatures);
    // Only this platform's packages, which the build of this test has fetched, so that no network is needed.
    command.other_options(["--locked".to_owned(), "--filter-platform".to_owned(), host_platform()]);
    command.exec().expect("cargo metadata")
}

fn host_platform() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().expect("rustc -vV");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host line").to_owned()
}

fn package<'a>(metadata: &'a Metadata, name: &str) -> &'a Package {
    let packages = metadata.workspace_packages();
    packages
        .into_iter()
        .find(|package| package.name.as_str() == name)
        .unwrap_or_else(|| panic!("no crate {name}"))
}

/// The names of all that is linked into a crate. What its tests use, and what runs only at build time, is not.
fn reached_from<'a>(metadata: &'a Metadata, start: &'a PackageId) -> BTreeSet<&'a str> {
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let mut open = vec![start];
    let mut seen = BTreeSet::new();
    let mut names = BTreeSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        names.insert(metadata[id].name.as_str());
        let linked = resolve[id].deps.iter().filter(|dependency| {
            let is_macro =
                metadata[&dependency.pkg].targets.iter().any(cargo_metadata::Target::is_proc_macro);
            let is_normal = dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            let link = (metadata[id].name.as_str(), metadata[&dependency.pkg].name.as_str());
            is_normal && !is_macro && !BY_FEATURES_OF_OTHERS.contains(&link)
        });
        open.extend(linked.map(|dependency| &dependency.pkg));
    }
    names
}

/// All Rust files under a folder, but for tests that stand in a file of their own.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            files.append(&mut sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The lines of a manifest that name a dependency, each with its number.
fn dependency_lines(manifest: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut inside = false;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line.trim_matches(['[', ']']).ends_with("dependencies");
            assert!(
                !line.contains("dependencies."),
                "line {}: one line per dependency, please: {line}",
                index + 1
            );
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            lines.push((index + 1, line));
        }
    }
    lines
}
