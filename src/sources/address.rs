//! Which addresses may be asked at all.
//!
//! A spec names any host it likes and the controller asks from its own place in the network: without this, whoever may
//! write a KubervisorService could reach the controller's own ports and the cloud's metadata service. Checked after
//! resolution, on the very address that is then connected to, so that a name cannot be one thing when looked at and
//! another when used.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// The rules, and the resolver that holds every name to them.
#[derive(Debug, Clone)]
pub(super) struct Guard(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    allow_loopback: bool,
    refused: BTreeSet<IpAddr>,
}

/// An address that may not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forbidden(pub(super) IpAddr);

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the address {} may not be asked", self.0)
    }
}

impl Error for Forbidden {}

impl Guard {
    /// Refuses link-local addresses, clouds' metadata services elsewhere and `refused`; loopback ones as well, unless
    /// `allow_loopback`.
    pub(super) fn new(allow_loopback: bool, refused: &BTreeSet<IpAddr>) -> Self {
        let refused = refused.iter().copied().map(plain).collect();
        Self(Arc::new(Rules { allow_loopback, refused }))
    }

    pub(super) fn check(&self, ip: IpAddr) -> Result<(), Forbidden> {
        let plain = plain(ip);
        let own = is_own(plain) && !self.0.allow_loopback;
        if own || is_link_local(plain) || METADATA.contains(&plain) || self.0.refused.contains(&plain) {
            Err(Forbidden(plain))
        } else {
            Ok(())
        }
    }

    /// Those that may be asked, or the first that may not if none is left.
    fn filter(&self, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Forbidden> {
        let (mut allowed, mut refused) = (Vec::new(), None);
        for address in found {
            match self.check(address.ip()) {
                Ok(()) => allowed.push(address),
                Err(forbidden) => refused = refused.or(Some(forbidden)),
            }
        }
        match refused {
            Some(forbidden) if allowed.is_empty() => Err(forbidden),
            _ => Ok(allowed),
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        resolve(self.clone(), name.as_str().to_owned())
    }
}

/// Finds every name at one host: a server is connected to there, and asked for by the name of its certificate.
#[derive(Debug, Clone)]
pub(super) struct AsNamed {
    pub(super) guard: Guard,
    pub(super) host: String,
}

impl Resolve for AsNamed {
    fn resolve(&self, _: Name) -> Resolving {
        resolve(self.guard.clone(), self.host.clone())
    }
}

fn resolve(guard: Guard, host: String) -> Resolving {
    Box::pin(async move {
        // Port 0: the connector puts in the URL's.
        let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
        let allowed = guard.filter(found)?;
        Ok(Box::new(allowed.into_iter()) as Addrs)
    })
}

/// The IPv4 address inside an IPv6 one that reaches it: mapped (`::ffff:0:0/96`), compatible (`::/96`), through a
/// translator (`64:ff9b::/96`, `64:ff9b:1::/48`, `::ffff:0:0:0/96`) or by 6to4 (`2002::/16`).
fn plain(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip else { return ip };
    if let [0x20, 0x02, a, b, c, d, ..] = v6.octets() {
        return IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    }
    let embedded = match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] => true,
        [0x64, 0xff9b, 0, 0, 0, 0, _, _] | [0x64, 0xff9b, 1, ..] => true,
        [0, 0, 0, 0, 0, 0, _, _] => v6 != Ipv6Addr::LOCALHOST && v6 != Ipv6Addr::UNSPECIFIED,
        _ => false,
    };
    let [.., a, b, c, d] = v6.octets();
    if embedded { IpAddr::V4(Ipv4Addr::new(a, b, c, d)) } else { ip }
}

/// This machine: loopback, and the unspecified addresses, which Linux connects to loopback.
fn is_own(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets()[0] == 0,
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified(),
    }
}

/// Where clouds have their metadata services beside 169.254.169.254: AWS, Google and Oracle over IPv6, Azure, Alibaba.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
];

/// 169.254/16 and fe80::/10: the metadata services of clouds are there, and no Service ever is.
fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(allow_loopback: bool, ip: &str) -> bool {
        Guard::new(allow_loopback, &BTreeSet::from(["10.96.0.1".parse().unwrap()]))
            .check(ip.parse().unwrap())
            .is_err()
    }

    #[test]
    fn loopback_is_refused_in_every_spelling_unless_allowed() {
        let usual = ["127.0.0.1", "127.9.9.9", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1"];
        let translated =
            ["64:ff9b::7f00:1", "64:ff9b:1::7f00:1", "::ffff:0:127.0.0.1", "2002:7f00:1::", "2002:7f00:1::7"];
        for ip in usual.into_iter().chain(translated) {
            assert!(refused(false, ip), "{ip}");
            assert!(!refused(true, ip), "{ip}");
        }
    }

    #[test]
    fn link_local_is_refused_in_every_spelling_always() {
        let metadata = "64:ff9b::a9fe:a9fe";
        for ip in ["169.254.169.254", "fe80::1", "febf::1", "::ffff:169.254.169.254", metadata] {
            assert!(refused(false, ip), "{ip}");
            assert!(refused(true, ip), "{ip}");
        }
    }

    #[test]
    fn metadata_services_that_are_not_link_local_are_refused_too() {
        for ip in ["fd00:ec2::254", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "168.63.129.16", "100.100.100.200"]
        {
            assert!(refused(false, ip), "{ip}");
            assert!(refused(true, ip), "{ip}");
        }
    }

    #[test]
    fn the_api_server_is_refused_and_services_are_not() {
        assert!(refused(true, "10.96.0.1"));
        assert!(refused(true, "::ffff:10.96.0.1"));
        for ip in ["10.96.7.31", "192.168.1.9", "203.0.113.7", "fd00::7", "2001:db8::7", "fec0::1"] {
            assert!(!refused(false, ip), "{ip}");
        }
    }

    #[test]
    fn of_several_addresses_only_those_that_may_be_asked_are_left() {
        let guard = Guard::new(false, &BTreeSet::new());
        let found = ["127.0.0.1:0", "10.96.7.31:0"].map(|a| a.parse().unwrap());
        assert_eq!(guard.filter(found.into_iter()).unwrap(), [found[1]]);
        assert_eq!(guard.filter(found[..1].iter().copied()), Err(Forbidden(found[0].ip())));
        assert_eq!(guard.filter(std::iter::empty()), Ok(vec![]));
    }
}
