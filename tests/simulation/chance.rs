//! Chance as a function of a seed: nothing here is drawn from the machine.

use std::time::Duration;

use kubervisor_core::backoff::hash;

/// Draws by what they decide: one draw more changes no other one, so that a story stays the same when a part of it is
/// left out.
#[derive(Debug, Clone, Copy)]
pub struct Chance(pub u64);

impl Chance {
    /// 64 uniform bits, the same for the same arguments.
    pub fn draw(self, purpose: &str, a: u64, b: u64) -> u64 {
        let mut bytes = [0_u8; 16];
        bytes[..8].copy_from_slice(&a.to_le_bytes());
        bytes[8..].copy_from_slice(&b.to_le_bytes());
        mix(hash(hash(self.0, purpose.as_bytes()), &bytes))
    }

    /// Percent of the draws are true.
    pub fn happens(self, percent: u64, purpose: &str, a: u64, b: u64) -> bool {
        self.draw(purpose, a, b) % 100 < percent
    }

    /// Within `from..to`, in milliseconds.
    pub fn millis(self, from: u64, to: u64, purpose: &str, a: u64, b: u64) -> Duration {
        Duration::from_millis(from + self.draw(purpose, a, b) % (to - from))
    }
}

/// A sequence of draws, for what is made once at the start.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5157_0a2c_93fe_77d1))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number within `from..to`.
    pub fn within(&mut self, from: u64, to: u64) -> u64 {
        from + self.next() % (to - from)
    }

    /// An index below `length`.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.next() % length as u64).unwrap_or(0)
    }

    /// One of them.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.index(of.len())].clone()
    }

    /// True for that percent of the calls.
    pub fn happens(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    /// Seconds within `from..to`, with a broken part.
    pub fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.within(from * 1_000, to * 1_000))
    }
}

/// The finishing step of splitmix64.
fn mix(value: u64) -> u64 {
    let z = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
