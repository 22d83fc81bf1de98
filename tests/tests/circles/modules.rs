//! The modules of a crate and the names that each takes from others, read from its tokens. Paths in macros count; items under
//! `#[cfg(test)]` don't.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use proc_macro2::{Delimiter, TokenStream, TokenTree};

type ModulePath = Vec<String>;

/// The modules of a crate that have a file of their own.
pub(crate) struct Modules {
    files: BTreeMap<ModulePath, Module>,
}

struct Module {
    file: PathBuf,
    /// Paths from the crate's root.
    mentions: BTreeSet<ModulePath>,
    /// Names that are handed on from other modules, and whose they are.
    exports: BTreeMap<String, ModulePath>,
}

impl Modules {
    /// Reads a crate by its root's file.
    pub(crate) fn read(root: &Path) -> Self {
        let mut modules = Self { files: BTreeMap::new() };
        modules.add(Vec::new(), root.to_owned(), root.parent().unwrap());
        modules
    }

    /// Each file, with those that it takes names from. A module's own submodules are not among them: it is their face, which
    /// declares them, puts them together, and has what they share.
    pub(crate) fn arrows(&self) -> BTreeMap<&Path, BTreeSet<&Path>> {
        let arrows = self.files.iter().map(|(path, module)| {
            let targets = module.mentions.iter().filter_map(|mention| self.module_of(mention.clone()));
            let others = targets.filter(|target| !target.starts_with(path));
            (module.file.as_path(), others.map(|target| self.files[target].file.as_path()).collect())
        });
        arrows.collect()
    }

    /// The module that a path leads to: the deepest one on it, or the module from which that hands the name on.
    fn module_of(&self, mut path: ModulePath) -> Option<&[String]> {
        // Handing on has an end, unless two modules hand the same name to each other.
        for _ in 0..self.files.len() + 1 {
            let depth = (0..=path.len()).rev().find(|&depth| self.files.contains_key(&path[..depth]))?;
            let (found, module) = self.files.get_key_value(&path[..depth])?;
            match path.get(depth).and_then(|name| module.exports.get(name)) {
                Some(origin) => {
                    let rest = path.split_off(depth + 1);
                    path = origin.clone();
                    path.extend(rest);
                }
                None => return Some(found),
            }
        }
        None
    }

    fn add(&mut self, path: ModulePath, file: PathBuf, folder: &Path) {
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let tokens = text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut reading = Reading::default();
        reading.items(tokens, &path);
        for submodule in reading.submodules {
            let inner =
                submodule[path.len()..].iter().fold(folder.to_owned(), |folder, name| folder.join(name));
            let flat = inner.with_extension("rs");
            let file = if flat.is_file() { flat } else { inner.join("mod.rs") };
            self.add(submodule, file, &inner);
        }
        let Reading { mentions, exports, .. } = reading;
        self.files.insert(path, Module { file, mentions, exports });
    }
}

/// The findings of one file.
#[derive(Default)]
struct Reading {
    /// Those with a file of their own.
    submodules: Vec<ModulePath>,
    mentions: BTreeSet<ModulePath>,
    exports: BTreeMap<String, ModulePath>,
    /// Names that a `use` brought here, and whose they are.
    scope: BTreeMap<String, ModulePath>,
}

impl Reading {
    /// Reads the tokens of a module, or of a part of one.
    fn items(&mut self, tokens: TokenStream, module: &[String]) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            let rest = &tokens[at..];
            if let Some(length) = test_item(rest) {
                at += length;
            } else if let [TokenTree::Ident(word), TokenTree::Ident(name), next, ..] = rest
                && word == "mod"
            {
                let inner = [module, &[name.to_string()]].concat();
                match next {
                    TokenTree::Group(body) => self.items(body.stream(), &inner),
                    _ => self.submodules.push(inner),
                }
                at += 3;
            } else if let [TokenTree::Ident(word), ..] = rest
                && word == "use"
            {
                let is_handed_on = at > 0 && is_visibility(&tokens[..at]);
                let length = self.path(&rest[1..], Vec::new(), module, Some(is_handed_on));
                at += 1 + length;
            } else if (is_anchored(rest) || self.is_in_scope(rest)) && !follows_path(&tokens[..at]) {
                at += self.path(rest, Vec::new(), module, None);
            } else {
                if let TokenTree::Group(group) = &rest[0] {
                    self.items(group.stream(), module);
                }
                at += 1;
            }
        }
    }

    /// Reads a path, or the tree of paths of a `use`; answers how many tokens that took. `handed_on` is none outside of a
    /// `use`.
    fn path(
        &mut self,
        tokens: &[TokenTree],
        mut path: ModulePath,
        module: &[String],
        handed_on: Option<bool>,
    ) -> usize {
        let mut at = 0;
        let mut name = None;
        loop {
            match tokens.get(at) {
                Some(TokenTree::Ident(word)) if name.is_some() && word == "as" => {
                    name = tokens.get(at + 1).map(ToString::to_string);
                    at += 2;
                }
                Some(TokenTree::Ident(word)) if name.is_none() => {
                    path.push(word.to_string());
                    name = Some(word.to_string());
                    at += 1;
                    if is_colons(&tokens[at..]) {
                        name = None;
                        at += 2;
                    }
                }
                Some(TokenTree::Group(group)) if name.is_none() && group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                    let is_comma =
                        |tree: &TokenTree| matches!(tree, TokenTree::Punct(comma) if comma.as_char() == ',');
                    for one in inner.split(is_comma).filter(|one| !one.is_empty()) {
                        self.path(one, path.clone(), module, handed_on);
                    }
                    return at + 1;
                }
                // A glob, or the generics of a path in code.
                _ => break,
            }
        }
        let leaf =
            name.filter(|name| name != "self").or_else(|| path.iter().rfind(|word| *word != "self").cloned());
        if let Some(whole) = self.absolute(path, module, handed_on.is_some()) {
            if let (Some(is_handed_on), Some(leaf)) = (handed_on, leaf) {
                self.scope.insert(leaf.clone(), whole.clone());
                if is_handed_on {
                    self.exports.insert(leaf, whole.clone());
                }
            }
            self.mentions.insert(whole);
        }
        at.max(1)
    }

    /// A path from the crate's root; none if it begins with another crate, or with a name that is in scope.
    fn absolute(&self, path: ModulePath, module: &[String], is_use: bool) -> Option<ModulePath> {
        let mut words = path.into_iter().peekable();
        let mut whole: ModulePath = match words.peek()?.as_str() {
            "crate" => Vec::new(),
            "self" | "super" => module.to_vec(),
            child if is_use && self.has_submodule(module, child) => module.to_vec(),
            name if !is_use && self.scope.contains_key(name) => {
                let origin = self.scope[name].clone();
                words.next();
                origin
            }
            _ => return None,
        };
        for word in words {
            match word.as_str() {
                "crate" | "self" => {}
                "super" => _ = whole.pop()?,
                _ => whole.push(word),
            }
        }
        Some(whole)
    }

    /// Whether a path begins here with a name that a `use` brought.
    fn is_in_scope(&self, tokens: &[TokenTree]) -> bool {
        let [TokenTree::Ident(word), rest @ ..] = tokens else { return false };
        is_colons(rest) && self.scope.contains_key(&word.to_string())
    }

    fn has_submodule(&self, module: &[String], name: &str) -> bool {
        self.submodules
            .iter()
            .any(|path| path.split_last().is_some_and(|(last, parent)| last == name && parent == module))
    }
}

/// How many tokens an item takes that is for tests alone, with its attributes.
fn test_item(tokens: &[TokenTree]) -> Option<usize> {
    let [TokenTree::Punct(hash), TokenTree::Group(attribute), ..] = tokens else { return None };
    let text = attribute.stream().to_string().replace(' ', "");
    if hash.as_char() != '#' || !text.starts_with("cfg(test") {
        return None;
    }
    let ends = |tree: &TokenTree| match tree {
        TokenTree::Punct(semicolon) => semicolon.as_char() == ';',
        TokenTree::Group(body) => body.delimiter() == Delimiter::Brace,
        _ => false,
    };
    Some(tokens.iter().position(ends).map_or(tokens.len(), |at| at + 1))
}

/// Whether the tokens end with `pub` or `pub(…)`.
fn is_visibility(tokens: &[TokenTree]) -> bool {
    let is_pub = |tree: Option<&TokenTree>| matches!(tree, Some(TokenTree::Ident(word)) if word == "pub");
    match tokens.last() {
        Some(TokenTree::Group(_)) => is_pub(tokens.iter().nth_back(1)),
        last => is_pub(last),
    }
}

/// Whether a path begins here that says where it begins.
fn is_anchored(tokens: &[TokenTree]) -> bool {
    let [TokenTree::Ident(word), rest @ ..] = tokens else { return false };
    (word == "crate" || word == "self" || word == "super") && is_colons(rest)
}

fn follows_path(before: &[TokenTree]) -> bool {
    before.len() >= 2 && is_colons(&before[before.len() - 2..])
}

fn is_colons(tokens: &[TokenTree]) -> bool {
    let is_colon = |tree: &TokenTree| matches!(tree, TokenTree::Punct(punct) if punct.as_char() == ':');
    tokens.len() >= 2 && tokens[..2].iter().all(is_colon)
}
