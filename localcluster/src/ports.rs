//! Loopback ports from the kernel, kept ours even while nobody listens on them.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpSocket;

/// A free port on 127.0.0.1, reserved for as long as this value lives.
///
/// On Linux a bound socket that never listens keeps the port from everybody who asks for *any* port, while a listener
/// that names it (with `SO_REUSEADDR`, which Go always sets) may still have it. So no other process slips in between
/// asking and listening, nor while the API server is away.
pub(crate) struct Port {
    address: SocketAddr,
    _reservation: Option<TcpSocket>,
}

impl Port {
    pub(crate) fn reserve() -> anyhow::Result<Port> {
        Port::try_reserve().context("cannot get a free port on 127.0.0.1")
    }

    fn try_reserve() -> std::io::Result<Port> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = socket.local_addr()?;
        // Elsewhere a bound socket would keep the listener out as well.
        Ok(Port { address, _reservation: cfg!(target_os = "linux").then_some(socket) })
    }

    pub(crate) fn number(&self) -> u16 {
        self.address.port()
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}
