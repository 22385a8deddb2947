//! Chance as a function: (seed, purpose, two numbers) gives always the same draw.

/// What a draw decides. Draws for different purposes are independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Whether a request is answered with an error.
    Code,
    /// The price in an answer.
    Price,
    /// How long an answer takes.
    Latency,
    /// Which endpoint a request is sent to.
    Pick,
    /// How many requests there are.
    Volume,
    /// Which pods something befalls.
    Fate,
    /// When in its turn something happens that returns: a scrape, a question.
    Phase,
}

impl Purpose {
    // Written out, not `as u64`: a variant added in the middle must not change the runs of old seeds.
    const fn number(self) -> u64 {
        match self {
            Self::Code => 1,
            Self::Price => 2,
            Self::Latency => 3,
            Self::Pick => 4,
            Self::Volume => 5,
            Self::Fate => 6,
            Self::Phase => 7,
        }
    }
}

/// The seed of a run. Equal seeds give equal runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// Any number is a good seed; 0 is no special case.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 uniform bits, the same for the same arguments.
    #[inline]
    pub const fn draw(self, purpose: Purpose, a: u64, b: u64) -> u64 {
        self.draws(purpose, a).draw(b)
    }

    /// A uniform number in [0, 1), a multiple of 2^-53.
    #[inline]
    pub const fn unit(self, purpose: Purpose, a: u64, b: u64) -> f64 {
        self.draws(purpose, a).unit(b)
    }

    /// All draws for one purpose and one first number: whoever makes many of them pays for these two once.
    #[inline]
    pub const fn draws(self, purpose: Purpose, a: u64) -> Draws {
        // Each step is a bijection of what came before, so that two draws that differ in one argument only
        // can never be the same number.
        let purposed = mix(self.0 ^ mix(purpose.number()));
        Draws(mix(purposed ^ a))
    }
}

/// Draws that differ in their second number only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draws(u64);

impl Draws {
    /// 64 uniform bits.
    #[inline]
    pub const fn draw(self, b: u64) -> u64 {
        mix(self.0.wrapping_add(b))
    }

    /// A uniform number in [0, 1), a multiple of 2^-53.
    #[inline]
    pub const fn unit(self, b: u64) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.draw(b) >> 11) as f64 * STEP
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): one step of the counter, then its finalizer.
#[inline]
const fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_the_published_splitmix64() {
        // The first three outputs for state 1234567, as printed by the authors' reference code.
        let outputs: Vec<u64> = (0..3u64)
            .map(|n| mix(1_234_567u64.wrapping_add(n.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
            .collect();
        assert_eq!(
            outputs,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_unit_is_never_one() {
        assert!((0..10_000).all(|n| (0.0..1.0).contains(&Seed::new(n).unit(Purpose::Code, n, n))));
    }
}
