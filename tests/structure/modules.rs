//! The modules of a crate, read as the compiler reads them, without what is for tests alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::{Attribute, Item, ItemMod, Meta};

/// Names from the crate's root to a module or an item.
pub(crate) type Names = Vec<String>;

pub(crate) struct Module {
    pub(crate) file: PathBuf,
    pub(crate) items: Vec<Item>,
}

pub(crate) struct Crate {
    /// By their paths from the root, whose own path is empty.
    pub(crate) modules: BTreeMap<Names, Module>,
}

impl Crate {
    pub(crate) fn read(root: &Path) -> Self {
        let mut modules = Self {
            modules: BTreeMap::new(),
        };
        let folder = root.parent().unwrap().to_path_buf();
        modules.add_file(Names::new(), root, &folder);
        modules
    }

    fn add_file(&mut self, path: Names, file: &Path, folder: &Path) {
        let text = std::fs::read_to_string(file).unwrap();
        let items = syn::parse_file(&text).unwrap().items;
        self.add(path, file, folder, items);
    }

    fn add(&mut self, path: Names, file: &Path, folder: &Path, items: Vec<Item>) {
        let items: Vec<_> = items
            .into_iter()
            .filter(|item| !is_for_tests(item))
            .collect();
        for item in &items {
            let Item::Mod(ItemMod {
                ident,
                content,
                attrs,
                ..
            }) = item
            else {
                continue;
            };
            let name = ident.to_string();
            let below = [&path[..], std::slice::from_ref(&name)].concat();
            if let Some((_, items)) = content {
                self.add(below, file, &folder.join(&name), items.clone());
                continue;
            }
            let flat = folder.join(format!("{name}.rs"));
            let nested = folder.join(&name).join("mod.rs");
            let file = match stated_path(attrs) {
                Some(stated) => file.parent().unwrap().join(stated),
                None if flat.exists() => flat,
                None => nested,
            };
            self.add_file(below, &file, &folder.join(&name));
        }
        let file = file.to_path_buf();
        self.modules.insert(path, Module { file, items });
    }
}

fn stated_path(attributes: &[Attribute]) -> Option<String> {
    attributes
        .iter()
        .find_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
                syn::Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(path),
                    ..
                }) => Some(path.value()),
                _ => None,
            },
            _ => None,
        })
}

fn is_for_tests(item: &Item) -> bool {
    let attributes = match item {
        Item::Const(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => return false,
    };
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition = list.tokens.to_string();
            condition == "test" || condition.starts_with("all (test")
        }
        _ => false,
    })
}
