//! Rowcast's commands, split below the length that the server takes ([`commands`]). Pure.

use std::fmt::{Display, Write};

use crate::peer::Subscribing;
use crate::table::Table;

/// The most ids that a command lists, which keeps it far below the 256 KiB that a message may have, also with a version
/// for each of them.
pub(crate) const IDS_PER_COMMAND: usize = 1024;

/// The states of its products that a subscription asks for first.
#[derive(Clone, Copy, Debug)]
pub(crate) enum States<'a> {
    None,
    /// All of them.
    All,
    /// Those that differ from what the reader knows: a version for each product.
    Since {
        versions: &'a [u64],
        epoch: &'a str,
    },
}

/// Returns the commands for these products, each with an id, so that it is answered.
pub(crate) fn commands(command: &str, ids: &[u32], states: States<'_>) -> Subscribing {
    commands_on(Table::Products, command, ids, states)
}

/// Returns the same for rows of a table.
pub(crate) fn commands_on(table: Table, command: &str, ids: &[u32], states: States<'_>) -> Subscribing {
    let message = |start: usize| {
        let end = ids.len().min(start + IDS_PER_COMMAND);
        let mut text = format!(r#"{{"command":"{command}",{}"#, table.listed(&ids[start..end]));
        match states {
            States::None => {}
            States::All => text.push_str(r#","snapshot":true"#),
            States::Since { versions, epoch } => {
                text.push_str(r#","versions":["#);
                join(&mut text, &versions[start..end]);
                let _ = write!(text, r#"],"epoch":"{epoch}""#);
            }
        }
        text.push_str(r#","id":1}"#);
        text
    };
    let messages: Vec<String> = (0..ids.len()).step_by(IDS_PER_COMMAND).map(message).collect();
    let answers = messages.len();
    Subscribing { messages, answer: r#""ok":true"#, answers }
}

/// Appends numbers with commas between them.
pub(crate) fn join(text: &mut String, numbers: &[impl Display]) {
    for (place, number) in numbers.iter().enumerate() {
        let comma = if place == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{number}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_list_as_many_ids_as_they_may() {
        let ids: Vec<u32> = (1..=2050).collect();
        let subscribing = commands("subscribe", &ids, States::None);
        assert_eq!((subscribing.messages.len(), subscribing.answers), (3, 3));
        assert_eq!(subscribing.messages[2], r#"{"command":"subscribe","productIDs":[2049,2050],"id":1}"#);
        assert!(subscribing.messages.iter().all(|message| message.len() < 256 * 1024));
        assert!(commands("subscribe", &[], States::All).messages.is_empty());
    }

    #[test]
    fn each_has_the_versions_of_its_own_ids() {
        let ids: Vec<u32> = (1..=1026).collect();
        let versions: Vec<u64> = ids.iter().map(|id| u64::from(*id) * 10).collect();
        let since = commands("subscribe", &ids, States::Since { versions: &versions, epoch: "k3x" });
        let second =
            r#"{"command":"subscribe","productIDs":[1025,1026],"versions":[10250,10260],"epoch":"k3x","id":1}"#;
        assert_eq!(since.messages[1], second);
        let all = commands("subscribe", &ids[..2], States::All);
        assert_eq!(all.messages, [r#"{"command":"subscribe","productIDs":[1,2],"snapshot":true,"id":1}"#]);
    }

    #[test]
    fn the_longest_are_within_the_servers_limit() {
        let (ids, versions) = ([u32::MAX; IDS_PER_COMMAND], [(1 << 53) - 1; IDS_PER_COMMAND]);
        let since = commands("subscribe", &ids, States::Since { versions: &versions, epoch: "0123456789abc" });
        assert!(since.messages[0].len() < 256 * 1024);
    }
}
