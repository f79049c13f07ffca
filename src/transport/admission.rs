//! The bounds on sockets, and the load of each core: counts that all threads share, off the path of a change.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use dashmap::DashMap;

use super::handshake_rate::HandshakeRate;

/// The values of the bounds on sockets. Zero sets no limit where an address or a second is counted.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionLimits {
    /// WebSockets in all.
    pub connections_max: usize,
    /// WebSockets from one address.
    pub connections_per_address_max: usize,
    /// Sockets that are not WebSockets, in all.
    pub http_sockets_max: usize,
    /// Sockets that are not WebSockets, from one address.
    pub http_sockets_per_address_max: usize,
    /// WebSockets that may open in a second.
    pub handshakes_per_second_max: u32,
}

/// The bounds on sockets, which all threads ask.
#[derive(Debug)]
pub struct Admission {
    /// WebSockets.
    pub connections: Bound,
    /// Sockets that are not WebSockets, or not yet.
    pub http_sockets: Bound,
    /// Handshakes, if their rate is bounded.
    pub handshakes: Option<HandshakeRate>,
}

impl Admission {
    /// Returns the bounds, with no socket counted.
    #[must_use]
    pub fn new(limits: AdmissionLimits) -> Self {
        let per_second = limits.handshakes_per_second_max;
        Self {
            connections: Bound::new(limits.connections_max, limits.connections_per_address_max),
            http_sockets: Bound::new(limits.http_sockets_max, limits.http_sockets_per_address_max),
            handshakes: (per_second > 0).then(|| HandshakeRate::new(per_second, Instant::now())),
        }
    }
}

/// The number of sockets that a core serves. Cheap to clone; all clones count the same core.
#[derive(Clone, Debug, Default)]
pub struct CoreLoad(Arc<AtomicUsize>);

impl CoreLoad {
    /// Returns the number of sockets that the core serves now.
    #[must_use]
    pub fn sockets(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more, until the returned count is dropped.
    #[must_use]
    pub fn count(&self) -> CountedSocket {
        self.0.fetch_add(1, Ordering::Relaxed);
        CountedSocket(Arc::clone(&self.0))
    }
}

/// One socket in a [`CoreLoad`].
#[derive(Debug)]
pub struct CountedSocket(Arc<AtomicUsize>);

impl Drop for CountedSocket {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A bound on the number of sockets of one kind in this process, in all and from one address: WebSockets, or sockets
/// that are not WebSockets yet. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Bound(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    /// Zero sets no bound, and then nothing is counted by address.
    per_address_max: usize,
    open: AtomicUsize,
    open_by_address: DashMap<u64, usize>,
}

/// One place within a [`Bound`], until it is dropped.
#[derive(Debug)]
pub struct Place {
    bound: Bound,
    address: u64,
}

/// The reason for which there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are this many, as many as there may be.
    InAll(usize),
    /// There are this many from the address, as many as one may have.
    OfAddress(usize),
}

impl Bound {
    /// Returns a bound of at most `max` in all, and `per_address_max` from one address; there, zero sets no bound.
    #[must_use]
    pub fn new(max: usize, per_address_max: usize) -> Self {
        let (open, open_by_address) = (AtomicUsize::new(0), DashMap::new());
        Self(Arc::new(Inner { max, per_address_max, open, open_by_address }))
    }

    /// Returns the number of places that are taken now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Takes a place for a peer from this address.
    ///
    /// # Errors
    /// The bound that is reached.
    pub fn enter(&self, address: IpAddr) -> Result<Place, Full> {
        let Inner { max, per_address_max, open, open_by_address } = &*self.0;
        let one_more = |open| (open < *max).then_some(open + 1);
        if open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            return Err(Full::InAll(*max));
        }
        let address = address_key(address);
        if *per_address_max > 0 {
            let mut of_address = open_by_address.entry(address).or_insert(0);
            if *of_address >= *per_address_max {
                open.fetch_sub(1, Ordering::Relaxed);
                return Err(Full::OfAddress(*per_address_max));
            }
            *of_address += 1;
        }
        Ok(Place { bound: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Inner { per_address_max, open, open_by_address, .. } = &*self.bound.0;
        open.fetch_sub(1, Ordering::Relaxed);
        if *per_address_max > 0 {
            open_by_address.remove_if_mut(&self.address, |_, of_address| {
                *of_address -= 1;
                *of_address == 0
            });
        }
    }
}

/// Returns the part of an address that counts as one: an IPv4 address, or the 64 bits of IPv6 that one customer is
/// given (RFC 6177). An IPv4 address has the place of a network that IPv6 reserves (RFC 4291, §2.5).
fn address_key(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => u64::try_from(address.to_bits() >> 64).expect("64 bits are left"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(bound: &Bound, address: &str) -> Result<Place, Full> {
        bound.enter(address.parse().unwrap())
    }

    #[test]
    fn a_place_is_free_again_when_it_is_given_back() {
        let bound = Bound::new(1, 0);
        let place = enter(&bound, "192.0.2.1").unwrap();
        assert_eq!(enter(&bound, "192.0.2.2").unwrap_err(), Full::InAll(1));
        assert_eq!(bound.open(), 1);
        drop(place);
        assert_eq!(bound.open(), 0);
        assert!(enter(&bound, "192.0.2.2").is_ok());
        assert!(bound.0.open_by_address.is_empty(), "addresses are not counted without a bound on them");
    }

    #[test]
    fn one_address_does_not_take_the_places_of_others() {
        let bound = Bound::new(4, 2);
        let first = [enter(&bound, "192.0.2.1").unwrap(), enter(&bound, "::ffff:192.0.2.1").unwrap()];
        assert_eq!(enter(&bound, "192.0.2.1").unwrap_err(), Full::OfAddress(2));
        let network = [enter(&bound, "2001:db8::1").unwrap(), enter(&bound, "2001:db8::ffff:0:0:1").unwrap()];
        assert_eq!(enter(&bound, "2001:db8:0:1::1").unwrap_err(), Full::InAll(4));
        drop(network);
        assert_eq!(bound.open(), 2, "who was refused holds nothing");
        assert_eq!(enter(&bound, "192.0.2.1").unwrap_err(), Full::OfAddress(2));
        let other_network = [enter(&bound, "2001:db8::1").unwrap(), enter(&bound, "2001:db8:0:1::1").unwrap()];
        drop((first, other_network));
        assert!(bound.open() == 0 && bound.0.open_by_address.is_empty(), "addresses are forgotten");
    }

    #[test]
    fn a_place_takes_no_more_than_two_words() {
        assert_eq!(size_of::<Place>(), 16);
    }

    #[test]
    fn sockets_are_counted_while_they_live() {
        let load = CoreLoad::default();
        let counted = (load.count(), load.clone().count());
        assert_eq!(load.sockets(), 2);
        drop(counted);
        assert_eq!(load.sockets(), 0);
    }
}
