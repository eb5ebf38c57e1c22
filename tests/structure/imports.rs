//! Which file takes what from which.

use std::collections::BTreeSet;
use std::path::PathBuf;

use syn::visit::Visit;
use syn::{Item, UseTree, Visibility};

use crate::modules::{Crate, Module, Names};

#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: PathBuf,
    pub(crate) to: PathBuf,
    pub(crate) name: String,
}

/// All imports between the files of a crate, in order.
pub(crate) fn all(tree: &Crate) -> Vec<Import> {
    let mut imports = BTreeSet::new();
    for (path, module) in &tree.modules {
        let mut seen = Paths::default();
        for item in &module.items {
            // Other modules are visited by themselves.
            if !matches!(item, Item::Mod(_)) {
                seen.visit_item(item);
            }
        }
        for names in seen.0 {
            let Some((to, name)) = resolve(tree, path, &names, 0) else {
                continue;
            };
            if to.file != module.file {
                imports.insert(Import {
                    from: module.file.clone(),
                    to: to.file.clone(),
                    name,
                });
            }
        }
    }
    imports.into_iter().collect()
}

/// Paths of more than one name, and whole `use` trees.
#[derive(Default)]
struct Paths(BTreeSet<Names>);

impl<'ast> Visit<'ast> for Paths {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        // What is handed on belongs to the file that has it.
        if matches!(item.vis, Visibility::Inherited) {
            leaves(&item.tree, &mut Vec::new(), &mut |names, _| {
                self.0.insert(names.to_vec());
            });
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            let names = path
                .segments
                .iter()
                .map(|segment| segment.ident.to_string());
            self.0.insert(names.collect());
        }
        syn::visit::visit_path(self, path);
    }
}

/// Each path of a `use`, with the name that it has afterwards.
fn leaves(tree: &UseTree, before: &mut Names, leaf: &mut impl FnMut(&[String], &str)) {
    let mut whole = |last: &str, renamed: &str, before: &mut Names| {
        let is_self = last == "self";
        if !is_self {
            before.push(last.to_owned());
        }
        let renamed = match (is_self, renamed) {
            (true, "self") => before.last().cloned().unwrap_or_default(),
            _ => renamed.to_owned(),
        };
        leaf(before, &renamed);
        if !is_self {
            before.pop();
        }
    };
    match tree {
        UseTree::Path(path) => {
            before.push(path.ident.to_string());
            leaves(&path.tree, before, leaf);
            before.pop();
        }
        UseTree::Name(name) => {
            let name = name.ident.to_string();
            whole(&name, &name, before);
        }
        UseTree::Rename(rename) => {
            whole(
                &rename.ident.to_string(),
                &rename.rename.to_string(),
                before,
            );
        }
        UseTree::Glob(_) => leaf(before, "*"),
        UseTree::Group(group) => {
            for tree in &group.items {
                leaves(tree, before, leaf);
            }
        }
    }
}

/// The module that has what a path names, and that name: through whatever hands it on.
fn resolve<'t>(
    tree: &'t Crate,
    at: &Names,
    names: &[String],
    depth: usize,
) -> Option<(&'t Module, String)> {
    let (first, mut rest) = names.split_first()?;
    let mut place = match first.as_str() {
        "crate" => Names::new(),
        "self" => at.clone(),
        "super" => at[..at.len().checked_sub(1)?].to_vec(),
        name => {
            let child = [&at[..], &[name.to_owned()]].concat();
            if tree.modules.contains_key(&child) {
                child
            } else {
                // A name that a `use` brought here, or another crate's.
                let whole = [&brought(tree, at, name)?[..], rest].concat();
                return match depth < 16 {
                    true => resolve(tree, at, &whole, depth + 1),
                    false => None,
                };
            }
        }
    };
    while let Some((name, after)) = rest.split_first() {
        if name == "super" {
            place.pop()?;
        } else {
            let child = [&place[..], std::slice::from_ref(name)].concat();
            if !tree.modules.contains_key(&child) {
                break;
            }
            place = child;
        }
        rest = after;
    }
    let module = tree.modules.get(&place)?;
    let Some(name) = rest.first() else {
        // The module itself: what is taken from it comes as a path of its own.
        return None;
    };
    if depth < 16
        && let Some(path) = brought(tree, &place, name)
    {
        let whole = [&path[..], &rest[1..]].concat();
        return resolve(tree, &place, &whole, depth + 1).or_else(|| Some((module, name.clone())));
    }
    Some((module, name.clone()))
}

/// The path that a `use` in a module brings a name from.
fn brought(tree: &Crate, place: &Names, wanted: &str) -> Option<Names> {
    let mut found = None;
    for item in &tree.modules.get(place)?.items {
        let Item::Use(item) = item else { continue };
        leaves(&item.tree, &mut Vec::new(), &mut |names, renamed| {
            if renamed == wanted && names != [wanted] {
                found.get_or_insert_with(|| names.to_vec());
            }
        });
    }
    found
}
