//! Refuses circles between the files of a crate: files that take names from each other can't be understood, tested or
//! moved one at a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test's failure is its report")]

#[path = "circles/modules.rs"]
mod modules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use cargo_metadata::MetadataCommand;
use modules::Modules;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn files_of_a_crate_import_each_other_in_no_circle() {
    let found = found();
    assert!(
        found.is_empty(),
        "these files import each other in a circle; move what they share into a file below them: {found:#?}"
    );
}

/// All circles of the workspace.
fn found() -> Vec<Vec<PathBuf>> {
    let root = Path::new(ROOT).canonicalize().unwrap();
    let of_crate = |crate_root: PathBuf| {
        let modules = Modules::read(&crate_root);
        let short = |file: &Path| file.strip_prefix(&root).unwrap().to_owned();
        let circles = circles(&modules.arrows()).into_iter();
        circles.map(|circle| circle.into_iter().map(short).collect()).collect::<Vec<Vec<PathBuf>>>()
    };
    crate_roots(&root).into_iter().flat_map(of_crate).collect()
}

/// Files of a crate are written, and the arrows between them are as expected: by name, without `.rs`.
#[track_caller]
fn check_arrows(files: &[(&str, &str)], expect: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = folder.path().join(format!("{name}.rs"));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let modules = Modules::read(&folder.path().join("lib.rs"));
    let name = |file: &Path| {
        file.strip_prefix(folder.path()).unwrap().with_extension("").into_os_string().into_string().unwrap()
    };
    let arrows = modules.arrows();
    let found: Vec<(String, String)> =
        arrows.iter().flat_map(|(from, to)| to.iter().map(move |to| (name(from), name(to)))).collect();
    let expect: Vec<_> = expect.iter().map(|(from, to)| (from.to_string(), to.to_string())).collect();
    assert_eq!(found, expect);
}

#[test]
fn an_arrow_is_a_path_to_another_module_wherever_it_stands() {
    let root = ("lib", "mod a; mod b; mod c { mod d; }");
    check_arrows(&[root, ("a", "use crate::b;"), ("b", ""), ("c/d", "")], &[("a", "b")]);
    check_arrows(
        &[root, ("a", "use super::{c::d::{self, E}, f};"), ("b", ""), ("c/d", "")],
        &[("a", "c/d"), ("a", "lib")],
    );
    check_arrows(
        &[root, ("a", "fn f() { crate::b::g(h!(super::c::d::E)) }"), ("b", ""), ("c/d", "")],
        &[("a", "b"), ("a", "c/d")],
    );
    check_arrows(&[root, ("a", ""), ("b", ""), ("c/d", "use super::super::b::X as Y;")], &[("c/d", "b")]);
    check_arrows(&[root, ("a", "// crate::b\nconst A: &str = \"crate::b\";"), ("b", ""), ("c/d", "")], &[]);
}

#[test]
fn a_path_that_begins_with_an_imported_module_leads_below_it() {
    let root = ("lib", "mod a; mod b; mod c { mod d; mod e; }");
    let code = "use crate::c; use super::c::e as f; fn g() { c::d::h(); f::I::new() }";
    check_arrows(
        &[root, ("a", code), ("b", ""), ("c/d", ""), ("c/e", "")],
        &[("a", "c/d"), ("a", "c/e"), ("a", "lib")],
    );
}

#[test]
fn a_name_that_is_handed_on_belongs_to_its_origin() {
    let root = ("lib", "mod a; mod b; mod c; pub use b::B; pub(crate) use c::{C as D, E};");
    check_arrows(&[root, ("a", "use crate::{B, D};"), ("b", ""), ("c", "")], &[("a", "b"), ("a", "c")]);
    check_arrows(
        &[root, ("a", "use crate::E::F;"), ("b", ""), ("c", "pub use crate::b::E;")],
        &[("a", "b"), ("c", "b")],
    );
}

#[test]
fn tests_and_submodules_make_no_arrows() {
    let root = ("lib", "mod a; mod b; use a::A;");
    let tests = "#[cfg(test)]\nmod tests { use crate::a::A; }\n#[cfg(test)] use crate::a;";
    check_arrows(&[root, ("a", ""), ("b", tests)], &[]);
    check_arrows(&[root, ("a", "mod c; use c::C;"), ("a/c", "use super::A;"), ("b", "")], &[("a/c", "a")]);
}

#[test]
fn a_circle_is_found_whatever_its_length() {
    let [a, b, c, d] = ["a", "b", "c", "d"].map(Path::new);
    let arrows = |all: &[(&'static Path, &'static Path)]| {
        let mut arrows: Arrows<'static> = [a, b, c, d].map(|file| (file, BTreeSet::new())).into();
        all.iter().for_each(|(from, to)| _ = arrows.get_mut(from).unwrap().insert(to));
        circles(&arrows)
    };
    assert!(arrows(&[(a, b), (b, c), (a, c), (c, d)]).is_empty());
    assert_eq!(arrows(&[(a, b), (b, a), (b, c)]), [[a, b]]);
    assert_eq!(arrows(&[(a, b), (b, c), (c, a), (c, d)]), [[a, b, c]]);
    assert_eq!(arrows(&[(a, b), (b, a), (c, d), (d, c)]), [[a, b], [c, d]]);
}

fn crate_roots(root: &Path) -> Vec<PathBuf> {
    let metadata = MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec().unwrap();
    let targets = metadata.packages.iter().flat_map(|package| &package.targets);
    let code = targets.filter(|target| target.is_lib() || target.is_bin());
    code.map(|target| target.src_path.clone().into_std_path_buf()).collect()
}

type Arrows<'a> = BTreeMap<&'a Path, BTreeSet<&'a Path>>;

/// Sets of files of which each leads to each other.
fn circles<'a>(arrows: &Arrows<'a>) -> Vec<Vec<&'a Path>> {
    let reached: BTreeMap<_, _> = arrows.keys().map(|file| (*file, reach(arrows, file))).collect();
    let mut circles: Vec<Vec<&Path>> = Vec::new();
    for (file, reach) in &reached {
        let circle: Vec<_> = reach.iter().copied().filter(|other| reached[other].contains(file)).collect();
        if circle.len() > 1 && !circles.contains(&circle) {
            circles.push(circle);
        }
    }
    circles
}

fn reach<'a>(arrows: &Arrows<'a>, start: &'a Path) -> BTreeSet<&'a Path> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
    while let Some(file) = open.pop() {
        for next in arrows.get(file).into_iter().flatten() {
            if seen.insert(*next) {
                open.push(next);
            }
        }
    }
    seen
}
