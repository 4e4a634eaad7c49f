//! Why a connection ended, and what a person can do about it.

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
#[error("{what}; {advice}")]
pub(super) struct LinkError {
    pub(super) what: String,
    /// What a person can do about it.
    pub(super) advice: &'static str,
}

impl LinkError {
    /// A connection that could not be made or kept.
    pub(super) fn lost(what: impl Into<String>, advice: &'static str) -> Self {
        Self { what: what.into(), advice }
    }

    /// Bytes that are no packet, or one that must not come now.
    #[cold]
    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::lost(what, advice::PROTOCOL)
    }

    /// A packet over our limit that is no message.
    #[cold]
    pub(super) fn too_large(bytes: usize, max_packet: u32) -> Self {
        let what = format!("the broker sent a packet of {bytes} bytes, and max_packet_bytes is {max_packet}");
        Self::lost(what, advice::TOO_LARGE)
    }

    /// A CONNACK or DISCONNECT with a reason.
    #[cold]
    pub(super) fn refused(
        what: &str,
        reason: impl std::fmt::Debug,
        text: Option<String>,
        advice: &'static str,
    ) -> Self {
        Self::lost(format!("{what}: {}", said(reason, text)), advice)
    }
}

/// A reason with the broker's own words, if it gave any: escaped, and no more than a line of them.
pub(super) fn said(reason: impl std::fmt::Debug, text: Option<String>) -> String {
    match text {
        Some(text) => format!("{reason:?}, {:?}", text.chars().take(MAX_SAID).collect::<String>()),
        None => format!("{reason:?}"),
    }
}

/// Characters of a reason string: a broker may send 64 KiB.
const MAX_SAID: usize = 200;

/// What to do about common failures.
pub(super) mod advice {
    pub(in super::super) const UNREACHABLE: &str = "check that the broker runs and that host and port are right";
    pub(in super::super) const REFUSED: &str =
        "check user name, password and client id, and the broker's access rules";
    pub(in super::super) const TLS: &str =
        "check ca_file, the broker's certificate and its name, and our own certificate";
    pub(in super::super) const CLOSED: &str =
        "the broker's log says why; a second client with the same client id would also do this";
    pub(in super::super) const TOO_LARGE: &str =
        "raise max_packet_bytes: it is no message, but an answer of the broker that we must have as a whole";
    pub(in super::super) const SHORTER: &str = "name fewer or shorter filters, or spread them over several sources";
    pub(in super::super) const STALE: &str =
        "see whether anything is published on our topics, and whether `stale_after_s` fits how often it is";
    pub(in super::super) const SILENT: &str = "the broker did not answer in time: check the network and its load";
    pub(in super::super) const PROTOCOL: &str =
        "see that this port speaks MQTT in the version that `version` says; else it is a fault of the broker";
}
