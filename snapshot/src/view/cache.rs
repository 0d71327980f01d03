//! What is kept for a while: values by key, the least recently used ones go when their weights come to too much.
//!
//! The value that was used last always stays, however heavy it is: whoever reads it part by part shall not make it anew for each part.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;

/// A bounded cache.
pub(super) struct Cache<K, V> {
    state: Mutex<State<K, V>>,
    weight_max: usize,
}

struct State<K, V> {
    values: HashMap<K, Kept<V>>,
    /// Keys by when they were used last.
    uses: BTreeMap<u64, K>,
    next_use: u64,
    weight: usize,
}

struct Kept<V> {
    value: Arc<V>,
    weight: usize,
    used: u64,
}

impl<K: Eq + Hash + Clone, V> Cache<K, V> {
    /// An empty one, for values whose weights come to at most `weight_max`.
    pub fn new(weight_max: usize) -> Self {
        Cache {
            state: Mutex::new(State {
                values: HashMap::new(),
                uses: BTreeMap::new(),
                next_use: 0,
                weight: 0,
            }),
            weight_max,
        }
    }

    /// The value of a key, if it is here.
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        self.state.lock().touch(key)
    }

    /// The value of a key; if it is not here, one that is made now: `make` is called with everything locked and must be quick.
    pub fn get_or_insert(&self, key: &K, weight: usize, make: impl FnOnce() -> V) -> Arc<V> {
        let mut state = self.state.lock();
        if let Some(value) = state.touch(key) {
            return value;
        }
        let value = Arc::new(make());
        let used = state.next_use;
        state.next_use += 1;
        state.uses.insert(used, key.clone());
        state.weight = state.weight.saturating_add(weight);
        let kept = Kept {
            value: value.clone(),
            weight,
            used,
        };
        state.values.insert(key.clone(), kept);
        state.shrink(self.weight_max);
        value
    }

    /// Says what a value weighs, once that is known. Nothing if it is gone already.
    pub fn weigh(&self, key: &K, weight: usize) {
        let mut state = self.state.lock();
        let Some(kept) = state.values.get_mut(key) else {
            return;
        };
        let before = std::mem::replace(&mut kept.weight, weight);
        state.weight = state.weight.saturating_sub(before).saturating_add(weight);
        state.shrink(self.weight_max);
    }

    /// Forgets a value.
    pub fn remove(&self, key: &K) {
        self.state.lock().remove(key);
    }

    /// What all values weigh.
    #[cfg(test)]
    pub fn weight(&self) -> usize {
        self.state.lock().weight
    }
}

impl<K: Eq + Hash + Clone, V> State<K, V> {
    fn touch(&mut self, key: &K) -> Option<Arc<V>> {
        let kept = self.values.get_mut(key)?;
        if let Some(key) = self.uses.remove(&kept.used) {
            self.uses.insert(self.next_use, key);
        }
        kept.used = self.next_use;
        self.next_use += 1;
        Some(kept.value.clone())
    }

    fn remove(&mut self, key: &K) {
        if let Some(kept) = self.values.remove(key) {
            self.uses.remove(&kept.used);
            self.weight = self.weight.saturating_sub(kept.weight);
        }
    }

    fn shrink(&mut self, weight_max: usize) {
        while self.weight > weight_max && self.uses.len() > 1 {
            let Some((_, key)) = self.uses.pop_first() else {
                return;
            };
            self.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cache;

    #[test]
    fn what_was_not_used_for_long_goes() {
        let cache: Cache<u32, u32> = Cache::new(10);
        for key in 0..3 {
            cache.get_or_insert(&key, 4, || key * 10);
            assert_eq!(cache.get(&0).as_deref(), Some(&0));
        }
        assert_eq!((cache.get(&1), cache.get(&2).as_deref()), (None, Some(&20)));
        assert_eq!(cache.weight(), 8);
        assert_eq!(*cache.get_or_insert(&2, 4, || 99), 20);
        // The last one stays, whatever it weighs, and no other does beside it.
        cache.weigh(&2, 100);
        assert_eq!((cache.get(&0), cache.get(&2).as_deref()), (None, Some(&20)));
        cache.get_or_insert(&5, 1, || 50);
        assert_eq!((cache.get(&2), cache.weight()), (None, 1));
        cache.remove(&5);
        cache.weigh(&5, 7);
        assert_eq!((cache.get(&5), cache.weight()), (None, 0));
    }
}
