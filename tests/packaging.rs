//! The manual pages and completions in `packaging/`, which are made of the command line and kept in the tree so that
//! `cargo deb` finds them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use rowcast::config::Cli;

/// Set, the files are written anew instead of compared.
const RENEW: &str = "ROWCAST_RENEW_PACKAGING";

/// Returns the manual page of `command` and those of its subcommands, by their paths.
fn manual_pages(command: Command, pages: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for subcommand in command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help") {
        manual_pages(subcommand.clone(), pages);
    }
    // The date would differ from day to day.
    let page = clap_mangen::Man::new(command).date("");
    let mut bytes = Vec::new();
    page.render(&mut bytes).unwrap();
    pages.insert(Path::new("man").join(page.get_filename()), bytes);
}

/// Returns what `packaging/` should hold, by paths below it.
fn files() -> BTreeMap<PathBuf, Vec<u8>> {
    let mut command = Cli::command();
    // The names of the subcommands' pages are those of the whole, as in rowcast-serve.
    command.build();
    let mut files = BTreeMap::new();
    manual_pages(command.clone(), &mut files);
    for (shell, name) in [(Shell::Bash, "rowcast.bash"), (Shell::Fish, "rowcast.fish"), (Shell::Zsh, "_rowcast")] {
        let mut bytes = Vec::new();
        clap_complete::generate(shell, &mut command.clone(), "rowcast", &mut bytes);
        files.insert(Path::new("completions").join(name), bytes);
    }
    files
}

#[test]
fn manual_pages_and_completions_are_those_of_the_command_line() {
    let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let files = files();
    if std::env::var_os(RENEW).is_some() {
        for (path, bytes) in &files {
            fs::write(packaging.join(path), bytes).unwrap();
        }
    }
    for directory in ["man", "completions"] {
        for entry in fs::read_dir(packaging.join(directory)).unwrap() {
            let path = Path::new(directory).join(entry.unwrap().file_name());
            assert!(files.contains_key(&path), "packaging/{} is of no command any more: remove it", path.display());
        }
    }
    for (path, bytes) in &files {
        assert!(
            fs::read(packaging.join(path)).is_ok_and(|kept| kept == *bytes),
            "packaging/{} is not what the command line says: {RENEW}=1 cargo test --test main packaging",
            path.display()
        );
    }
}
