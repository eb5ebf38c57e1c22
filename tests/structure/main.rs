//! Imports point down: no file leads back to itself, and modules stand on the floors that
//! ARCHITECTURE.md gives them.

#![expect(clippy::unwrap_used, reason = "a test panics where something is wrong")]

mod imports;
mod modules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use imports::Import;
use modules::Crate;

/// The roots of the crates whose files are read.
const ROOTS: [&str; 7] = [
    "src/lib.rs",
    "src/bin/tar2vhd/main.rs",
    "vhd-format/src/lib.rs",
    "inflate/src/lib.rs",
    "containerd/src/main.rs",
    "benches/compare/main.rs",
    "benches/instructions/main.rs",
];

fn imports_of(root: &Path) -> Vec<Import> {
    imports::all(&Crate::read(root))
}

/// Files that lead to each other, in the order of their paths.
fn circles(imports: &[Import]) -> Vec<BTreeSet<PathBuf>> {
    let mut next: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for import in imports {
        next.entry(&import.from).or_default().insert(&import.to);
    }
    let reached = |start: &Path| {
        let mut seen = BTreeSet::new();
        let mut todo = vec![start];
        while let Some(file) = todo.pop() {
            for file in next.get(file).into_iter().flatten() {
                if seen.insert(*file) {
                    todo.push(file);
                }
            }
        }
        seen.into_iter()
            .map(Path::to_path_buf)
            .collect::<BTreeSet<_>>()
    };
    let reached: BTreeMap<_, _> = next.keys().map(|file| (*file, reached(file))).collect();
    let mut circles: Vec<BTreeSet<PathBuf>> = Vec::new();
    for (file, below) in &reached {
        if !below.contains(*file) || circles.iter().any(|circle| circle.contains(*file)) {
            continue;
        }
        let leads_back =
            |other: &&PathBuf| reached.get(&***other).is_some_and(|r| r.contains(*file));
        circles.push(below.iter().filter(leads_back).cloned().collect());
    }
    circles
}

fn describe(circle: &BTreeSet<PathBuf>, imports: &[Import]) -> String {
    let mut lines = vec![format!("a circle of {} files:", circle.len())];
    for import in imports {
        if circle.contains(&import.from) && circle.contains(&import.to) {
            let Import { from, to, name } = import;
            lines.push(format!(
                "  {} takes {name} from {}",
                from.display(),
                to.display()
            ));
        }
    }
    lines.join("\n")
}

#[test]
fn no_file_leads_back_to_itself() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::set_current_dir(top).unwrap();
    let mut found = Vec::new();
    for root in ROOTS {
        let imports = imports_of(Path::new(root));
        assert!(!imports.is_empty(), "{root} imports nothing");
        found.extend(
            circles(&imports)
                .iter()
                .map(|circle| describe(circle, &imports)),
        );
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
/// The floor of each module of the library, from the table in ARCHITECTURE.md.
fn floors() -> BTreeMap<String, u32> {
    let text = std::fs::read_to_string("ARCHITECTURE.md").unwrap();
    let section = text
        .split("\n## ")
        .find(|section| section.starts_with("Floors"));
    let rows = section.unwrap().lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        Some((cells.next()?.parse().ok()?, cells.next()?))
    });
    let mut floors = BTreeMap::new();
    for (floor, modules) in rows {
        for module in modules.split('`').skip(1).step_by(2) {
            let before = floors.insert(module.to_owned(), floor);
            assert_eq!(before, None, "{module} is on two floors");
        }
    }
    floors
}

/// The module of the library that a file belongs to.
fn module(file: &Path) -> Option<String> {
    let path = file.strip_prefix("src").unwrap().with_extension("");
    let name = path.iter().next().unwrap().to_str().unwrap().to_owned();
    (name != "lib").then_some(name)
}

#[test]
fn modules_import_from_lower_floors() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    std::env::set_current_dir(top).unwrap();
    let floors = floors();
    let files = Crate::read(Path::new("src/lib.rs")).modules;
    let modules: BTreeSet<_> = files.values().filter_map(|m| module(&m.file)).collect();
    for module in &modules {
        assert!(
            floors.contains_key(module),
            "ARCHITECTURE.md has no floor for {module}"
        );
    }
    let mut upward = Vec::new();
    for import in imports_of(Path::new("src/lib.rs")) {
        let (Some(from), Some(to)) = (module(&import.from), module(&import.to)) else {
            continue;
        };
        if from != to && floors[&from] <= floors[&to] {
            let (file, name) = (import.from.display(), import.name);
            let (from, to) = (floors[&from], floors[&to]);
            upward.push(format!(
                "{file} on floor {from} takes {name} from {} on floor {to}",
                import.to.display()
            ));
        }
    }
    assert!(upward.is_empty(), "{}", upward.join("\n"));
}
