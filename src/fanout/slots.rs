//! The connections of one core, by slot and generation.

use super::SlotKey;

/// A table whose keys stay unique although its places are used again.
///
/// Values are boxed so that a growing table moves pointers and never reserves room for values that do not exist.
#[derive(Debug)]
pub(super) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<Box<T>>,
}

impl<T> Slots<T> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Adds what `build` makes of its key.
    pub(super) fn insert_with(&mut self, build: impl FnOnce(SlotKey) -> T) -> SlotKey {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, value: None });
            u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 connections")
        });
        let entry = &mut self.entries[slot as usize];
        let key = SlotKey { slot, generation: entry.generation };
        entry.value = Some(Box::new(build(key)));
        key
    }

    pub(super) fn get_mut(&mut self, key: SlotKey) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation == key.generation { entry.value.as_deref_mut() } else { None }
    }

    pub(super) fn remove(&mut self, key: SlotKey) -> Option<Box<T>> {
        let entry = self.entries.get_mut(key.slot as usize)?;
        if entry.generation != key.generation {
            return None;
        }
        let value = entry.value.take()?;
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(key.slot);
        Some(value)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SlotKey, &mut T)> {
        self.entries.iter_mut().zip(0u32..).filter_map(|(entry, slot)| {
            let key = SlotKey { slot, generation: entry.generation };
            entry.value.as_deref_mut().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_used_again_has_another_key() {
        let mut slots = Slots::new();
        let first = slots.insert_with(|_| "first");
        assert_eq!(slots.remove(first).as_deref(), Some(&"first"));
        let second = slots.insert_with(|_| "second");
        assert_eq!(second.slot, first.slot);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get_mut(second), Some(&mut "second"));
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn values_are_visited_with_their_keys() {
        let mut slots = Slots::new();
        let keys: Vec<_> = (0..4).map(|_| slots.insert_with(|key| key)).collect();
        slots.remove(keys[1]);
        let visited: Vec<_> = slots.iter_mut().map(|(key, value)| (key, *value)).collect();
        assert_eq!(visited, [(keys[0], keys[0]), (keys[2], keys[2]), (keys[3], keys[3])]);
    }
}
