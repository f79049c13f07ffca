//! The commands of a witness, which notes what it asks for. Each is about the rows of one table.

use std::collections::{BTreeMap, BTreeSet};

use super::{Asked, Witness};
use crate::oracle::table::{Id, PRODUCTS};

impl Witness {
    /// Returns the commands that subscribe to changes alone.
    pub(in crate::oracle) fn follow(&mut self, rows: &BTreeSet<Id>) -> Vec<String> {
        by_table(rows).into_iter().map(|(table, rows)| self.follow_of(table, rows)).collect()
    }

    fn follow_of(&mut self, table: usize, rows: BTreeSet<Id>) -> String {
        self.asked.push_back(Asked::Changes);
        let command = self.command("subscribe", table, &rows, "");
        self.subscribed.extend(rows);
        command
    }

    /// Returns the commands that ask for the state of rows.
    pub(in crate::oracle) fn snapshot(&mut self, rows: &BTreeSet<Id>) -> Vec<String> {
        by_table(rows).into_iter().map(|(table, rows)| self.snapshot_of(table, rows)).collect()
    }

    fn snapshot_of(&mut self, table: usize, rows: BTreeSet<Id>) -> String {
        // What is not subscribed to may have got another history meanwhile: who does not say what it knows begins anew.
        self.known.retain(|id, _| !rows.contains(id) || self.subscribed.contains(id));
        self.subscribed.extend(rows.iter().cloned());
        let command = self.command("subscribe", table, &rows, r#","snapshot":true"#);
        self.asked.push_back(Asked::Snapshot { missing: rows.clone(), rows });
        command
    }

    /// Returns the commands that ask for what differs from what it knows; for all, where it knows no epoch.
    pub(in crate::oracle) fn resume(&mut self, rows: &BTreeSet<Id>) -> Vec<String> {
        by_table(rows).into_iter().map(|(table, rows)| self.resume_of(table, rows)).collect()
    }

    fn resume_of(&mut self, table: usize, rows: BTreeSet<Id>) -> String {
        let Some(epoch) = self.epochs.get(&table).cloned() else { return self.snapshot_of(table, rows) };
        let version = |id: &Id| (id.clone(), self.known.get(id).map_or(0, |known| known.version));
        let versions: BTreeMap<Id, u64> = rows.iter().map(version).collect();
        let rest = format!(r#","versions":[{}],"epoch":"{epoch}""#, joined(versions.values().map(u64::to_string)));
        self.asked.push_back(Asked::Differences { versions, epoch });
        let command = self.command("subscribe", table, &rows, &rest);
        self.subscribed.extend(rows);
        command
    }

    /// Returns the commands that ask for whole tables, and tell what it knows. `rows` are all that there may be.
    pub(in crate::oracle) fn everything(&mut self, rows: &BTreeSet<Id>) -> Vec<String> {
        by_table(rows).into_iter().map(|(table, rows)| self.everything_of(table, rows)).collect()
    }

    fn everything_of(&mut self, table: usize, rows: BTreeSet<Id>) -> String {
        self.asked.push_back(Asked::Everything { table, named: BTreeSet::new() });
        self.subscribed.extend(rows);
        self.commands += 1;
        let of_table = self.known.iter().filter(|(id, _)| id.table == table);
        let newest = of_table.map(|(_, known)| known.version).max().unwrap_or(0);
        let epoch = self.epochs.get(&table);
        let known = epoch.map_or_else(String::new, |epoch| format!(r#","epoch":"{epoch}","newest":{newest}"#));
        let asked = self.rows_in_command(table, r#""*""#);
        format!(r#"{{"command":"subscribe",{asked},"snapshot":true{known},"id":{}}}"#, self.commands)
    }

    /// Returns the commands that end subscriptions.
    pub(in crate::oracle) fn unsubscribe(&mut self, rows: &BTreeSet<Id>) -> Vec<String> {
        by_table(rows).into_iter().map(|(table, rows)| self.unsubscribe_of(table, rows)).collect()
    }

    fn unsubscribe_of(&mut self, table: usize, rows: BTreeSet<Id>) -> String {
        for asked in &mut self.asked {
            if let Asked::Snapshot { missing, .. } = asked {
                // What was asked for before need not come any more.
                missing.retain(|id| !rows.contains(id));
            }
        }
        self.subscribed.retain(|id| !rows.contains(id));
        let command = self.command("unsubscribe", table, &rows, "");
        self.asked.push_back(Asked::Unsubscribed(rows));
        command
    }

    fn command(&mut self, command: &str, table: usize, rows: &BTreeSet<Id>, rest: &str) -> String {
        self.commands += 1;
        let keys = joined(rows.iter().map(|id| self.tables.get(table).json(&id.key)));
        let asked = self.rows_in_command(table, &format!("[{keys}]"));
        format!(r#"{{"command":"{command}",{asked}{rest},"id":{}}}"#, self.commands)
    }

    /// Returns the members of a command that say which rows it is about.
    fn rows_in_command(&self, table: usize, keys: &str) -> String {
        if table == PRODUCTS {
            format!(r#""productIDs":{keys}"#)
        } else {
            format!(r#""table":"{}","keys":{keys}"#, self.tables.get(table).name)
        }
    }
}

/// Returns the rows of each table.
fn by_table(rows: &BTreeSet<Id>) -> BTreeMap<usize, BTreeSet<Id>> {
    let mut rows_by_table: BTreeMap<usize, BTreeSet<Id>> = BTreeMap::new();
    for id in rows {
        rows_by_table.entry(id.table).or_default().insert(id.clone());
    }
    rows_by_table
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}
