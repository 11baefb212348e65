//! What end-to-end tests stand on: real services, real processes, scripted models and tools,
//! a client that knows the contract. Nothing here sleeps to wait for something: it polls a
//! condition with a deadline ([`poll::until`]) or is signalled ([`gate::Gate`]).
//!
//! Each test has a schema, a prefix in the broker and processes of its own, so that any
//! number of tests run side by side.
#![allow(clippy::unwrap_used)]

pub mod agents;
pub mod by_hand;
pub mod client;
pub mod clients;
pub mod collector;
pub mod conformance;
pub mod description;
pub mod gate;
pub mod model;
pub mod poll;
pub mod ports;
pub mod private_broker;
pub mod private_postgres;
pub mod processes;
pub mod producer;
pub mod prometheus;
pub mod races;
pub mod schedules;
pub mod services;
pub mod sse;
pub mod store_builders;
pub mod subscriber;
pub mod system;
pub mod tool;

/// Makes two tests of one flow: on Postgres and RabbitMQ with a process for each role, and on
/// `holdpoint dev`. `flow` is an `async fn(System)`; `with` is a `Setup`.
#[macro_export]
macro_rules! on_both {
    ($($name:ident $(with $setup:expr)?;)+) => {
        $(
            mod $name {
                #[allow(unused_imports)]
                use super::*;
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn on_services() {
                    let setup = $crate::system::Setup::services();
                    $(let setup = ($setup)(setup);)?
                    super::$name(setup.start().await).await;
                }
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn embedded() {
                    let setup = $crate::system::Setup::embedded();
                    $(let setup = ($setup)(setup);)?
                    super::$name(setup.start().await).await;
                }
            }
        )+
    };
}
