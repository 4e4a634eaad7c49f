//! As much MQTT as it takes to send messages from memory: in the place of a broker ([`feeder`]), or to one ([`publisher`]).
//!
//! Both run as processes of their own, so that their CPU time is nobody's but theirs, and send packets that were encoded before
//! anybody connected. They share the sending ([`flow`]) and the packets ([`wire`]).

pub mod feeder;
pub mod flow;
pub mod process;
pub mod publisher;
pub mod wire;
