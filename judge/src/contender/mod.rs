//! Who decides: ours, and the peers by their published rules.
//!
//! A contender sees the world once a second and says who is out from then on. Those that ask Prometheus see scrapes;
//! those that sit in the path of the requests see every answer of the second before, of all clients together: more
//! than a single proxy or client would.

pub mod a50;
pub mod envoy;
pub mod original;
pub mod ours;
pub mod question;
pub mod sweep;

use crate::case::Case;
use crate::world::World;

/// Decides who is out.
pub trait Contender {
    /// Looks at the world at the beginning of a second and marks in `out`, by ordinal, who gets no requests.
    fn decide(&mut self, world: &World<'_>, out: &mut [bool]);
}

/// Nobody decides: what the others are measured against.
#[derive(Debug)]
pub struct Nobody;

impl Contender for Nobody {
    fn decide(&mut self, _: &World<'_>, _: &mut [bool]) {}
}

/// The contenders, in the order of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// This project.
    Ours,
    /// The original Kubervisor.
    Original,
    /// Envoy as it ships: consecutive errors and success rate.
    Envoy,
    /// Its success rate alone.
    EnvoySuccessRate,
    /// Its failure percentage alone.
    EnvoyFailurePercentage,
    /// All of its rules, with room for a third of the fleet.
    EnvoyWide,
    /// gRPC's success rate.
    A50SuccessRate,
    /// gRPC's failure percentage.
    A50FailurePercentage,
}

impl Name {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Ours,
        Self::Original,
        Self::Envoy,
        Self::EnvoySuccessRate,
        Self::EnvoyFailurePercentage,
        Self::EnvoyWide,
        Self::A50SuccessRate,
        Self::A50FailurePercentage,
    ];

    /// As the tables have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "**Kubervisor**",
            Self::Original => "original Kubervisor",
            Self::Envoy => "Envoy, as it ships",
            Self::EnvoySuccessRate => "Envoy success rate",
            Self::EnvoyFailurePercentage => "Envoy failure percentage",
            Self::EnvoyWide => "Envoy, all rules, cap 34 %",
            Self::A50SuccessRate => "gRPC A50 success rate",
            Self::A50FailurePercentage => "gRPC A50 failure percentage",
        }
    }

    /// Whether it asks Prometheus.
    #[must_use]
    pub fn scrapes(self) -> bool {
        matches!(self, Self::Ours | Self::Original)
    }

    /// Ready to play a case.
    ///
    /// # Errors
    /// Ours, where the API refuses the manifest.
    pub fn enter(self, case: &Case) -> anyhow::Result<Box<dyn Contender>> {
        Ok(match self {
            Self::Ours => Box::new(ours::Ours::new(case)?),
            Self::Original => Box::new(original::Original::new(case)),
            Self::Envoy => Box::new(envoy::Envoy::new(case, envoy::Rules::SHIPPED)),
            Self::EnvoySuccessRate => Box::new(envoy::Envoy::new(case, envoy::Rules::SUCCESS_RATE)),
            Self::EnvoyFailurePercentage => {
                Box::new(envoy::Envoy::new(case, envoy::Rules::FAILURE_PERCENTAGE))
            }
            Self::EnvoyWide => Box::new(envoy::Envoy::new(case, envoy::Rules::WIDE)),
            Self::A50SuccessRate => Box::new(a50::A50::new(case, a50::Algorithm::SuccessRate)),
            Self::A50FailurePercentage => Box::new(a50::A50::new(case, a50::Algorithm::FailurePercentage)),
        })
    }
}
