//! Requests to the kernel's routing part (rtnetlink(7)), several to a system call.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::net::{AddressFamily as Family, RecvFlags, SendFlags, SocketFlags, SocketType};

/// A socket to the routing part of the namespace that it was opened in.
#[derive(Debug)]
pub struct Route {
    socket: OwnedFd,
    sent: u32,
}

/// One change, to be sent with others.
#[derive(Clone, Debug)]
pub struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
}

/// The far end of a veth.
#[derive(Debug)]
pub struct Far<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its index there, above 0; the kernel's choice if none.
    pub index: Option<u32>,
    /// Where it is to be made; in the socket's namespace, with both ends down, if none.
    pub space: Option<BorrowedFd<'a>>,
}

impl Request {
    /// Makes a veth: the near end in the socket's namespace, up if `far` is elsewhere; the far end, down, in its own.
    pub fn veth(near: &str, far: &Far<'_>) -> Self {
        let mut peer = LinkMessage::default();
        peer.header.index = far.index.unwrap_or(0);
        peer.attributes.push(LinkAttribute::IfName(far.name.to_owned()));
        let mut link = LinkMessage::default();
        if let Some(space) = far.space {
            peer.attributes.push(LinkAttribute::NetNsFd(space.as_raw_fd()));
            // Not the far end as well: the kernel would open it before it knows its peer (ENOTCONN).
            raise(&mut link);
        }
        link.attributes.push(LinkAttribute::IfName(near.to_owned()));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        Self { message: RouteNetlinkMessage::NewLink(link), flags: NLM_F_CREATE | NLM_F_EXCL }
    }

    /// Moves a link to another namespace, where it gets this index: what this module exists to avoid, for comparison.
    pub fn move_link(name: &str, to: BorrowedFd<'_>, index: i32) -> Self {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        link.attributes.push(LinkAttribute::NetNsFd(to.as_raw_fd()));
        link.attributes.push(LinkAttribute::NewIfIndex(index));
        Self { message: RouteNetlinkMessage::SetLink(link), flags: 0 }
    }

    /// Sets a link up, by its name.
    pub fn up(name: &str) -> Self {
        let mut link = LinkMessage::default();
        link.attributes.push(LinkAttribute::IfName(name.to_owned()));
        raise(&mut link);
        Self { message: RouteNetlinkMessage::SetLink(link), flags: 0 }
    }

    /// Adds an address to the link with this index.
    pub fn address(link: u32, address: Ipv4Addr, prefix: u8) -> Self {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = link;
        for attribute in [AddressAttribute::Local, AddressAttribute::Address] {
            message.attributes.push(attribute(IpAddr::V4(address)));
        }
        Self { message: RouteNetlinkMessage::NewAddress(message), flags: NLM_F_CREATE | NLM_F_EXCL }
    }
}

fn raise(link: &mut LinkMessage) {
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
}

/// Requests to one send: well below the default send buffer (208 KiB) at 40 to 200 bytes each.
const BATCH: usize = 512;

impl Route {
    /// Opens one in the namespace that this thread is in.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Self> {
        // Protocol 0 of netlink(7) is NETLINK_ROUTE.
        let socket = rustix::net::socket_with(Family::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, sent: 0 })
    }

    /// Carries out all of them, in order; the kernel is asked for one answer per batch.
    ///
    /// # Errors
    /// The first that failed; those after it have been tried as well.
    pub fn send(&mut self, requests: &[Request]) -> io::Result<()> {
        requests.chunks(BATCH).try_for_each(|batch| self.send_batch(batch))
    }

    fn send_batch(&mut self, batch: &[Request]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for (at, request) in batch.iter().enumerate() {
            self.sent = self.sent.wrapping_add(1);
            let mut header = NetlinkHeader::default();
            let last = if at + 1 == batch.len() { NLM_F_ACK } else { 0 };
            header.flags = NLM_F_REQUEST | last | request.flags;
            header.sequence_number = self.sent;
            let mut message =
                NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request.message.clone()));
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[start..start + message.buffer_len()]);
        }
        rustix::net::send(&self.socket, &bytes, SendFlags::empty())?;
        self.answer(self.sent)
    }

    /// Reads answers up to that of `last`.
    fn answer(&self, last: u32) -> io::Result<()> {
        let mut failed = Ok(());
        let mut buffer = vec![0; 16 << 10];
        loop {
            let (length, _) = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty())?;
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&buffer[..length])
                .map_err(|error| io::Error::other(error.to_string()))?;
            let NetlinkPayload::Error(answer) = message.payload else { continue };
            if let Some(code) = answer.code
                && failed.is_ok()
            {
                failed = Err(io::Error::from_raw_os_error(-code.get()));
            }
            if message.header.sequence_number == last {
                return failed;
            }
        }
    }
}
