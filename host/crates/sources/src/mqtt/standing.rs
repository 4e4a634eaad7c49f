//! One health for several connections: up when all are, down as soon as one is.

use std::sync::{Arc, Mutex, PoisonError};

use tidegate_model::Health;

/// How each connection of a source stands.
#[derive(Debug)]
pub(super) struct Standing {
    health: Arc<Health>,
    connections: Mutex<Vec<Option<Stand>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stand {
    Up,
    Down(String),
}

impl Standing {
    /// For `connections` connections, none of which has said anything.
    pub(super) fn new(health: Arc<Health>, connections: usize) -> Self {
        Self { health, connections: Mutex::new(vec![None; connections]) }
    }

    /// Connection `index` works.
    pub(super) fn up(&self, index: usize) {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        all[index] = Some(Stand::Up);
        let down = all.iter().flatten().find_map(|stand| if let Stand::Down(why) = stand { Some(why) } else { None });
        if let Some(why) = down {
            self.health.down(why.clone());
        } else if all.iter().all(|stand| *stand == Some(Stand::Up)) {
            self.health.up();
        }
    }

    /// Connection `index` does not, and why. Gives whether that is news: log it then.
    pub(super) fn down(&self, index: usize, why: String) -> bool {
        let mut all = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let stand = Some(Stand::Down(why.clone()));
        let news = all[index] != stand;
        all[index] = stand;
        self.health.down(why);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_model::State;

    /// Guarantees: `/readyz` is not told that all is well while one of two connections is down.
    #[test]
    fn up_when_all_are() {
        let health = Arc::new(Health::default());
        let standing = Standing::new(health.clone(), 2);
        standing.up(0);
        assert_eq!(health.state(), State::Starting);
        standing.up(1);
        assert_eq!(health.state(), State::Up);
        assert!(standing.down(1, "gone".into()));
        assert!(!standing.down(1, "gone".into()));
        standing.up(0);
        assert_eq!(health.state(), State::Down("gone".into()));
        standing.up(1);
        assert_eq!(health.state(), State::Up);
    }
}
