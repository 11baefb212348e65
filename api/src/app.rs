//! What every request shares.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdpoint_db::{Acted, Db, Store, StoreResult, Tell};
use holdpoint_engine::ids::SweepId;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::wire::{ExecutionKey, Message, NewEvents};
use holdpoint_engine::workflow::expression::Evaluator;
use holdpoint_perform::Performer;
use holdpoint_queue::{Outgoing, Queue, Route};
use holdpoint_scheduler::{Relay, Sweeper};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::auth::KeyCache;
use crate::backlog::Backlogs;
use crate::clock::Ids;
use crate::metrics::Metrics;
use crate::problem::Answer;
use crate::schemas::Schemas;
use crate::streams::Hub;
use crate::{Parts, Settings};

/// What every request shares.
pub struct App {
    pub db: Db,
    pub queue: Arc<dyn Queue>,
    pub queue_prefix: String,
    pub sweeper: Sweeper,
    pub relay: Relay,
    /// Seals what is for tools only; performs the effects of classic runs.
    pub performer: Arc<Performer>,
    /// Compiles workflows' expressions; its calls block.
    pub evaluator: Arc<dyn Evaluator>,
    pub settings: Settings,
    pub limits: Limits,
    pub registry: prometheus::Registry,
    pub metrics: Metrics,
    pub keys: KeyCache,
    /// What waits, by tenant.
    pub backlogs: Arc<Backlogs>,
    pub ids: Ids,
    pub schemas: Schemas,
    pub hub: Arc<Hub>,
    pub streams: Arc<Semaphore>,
    pub stop: CancellationToken,
}

/// Why the API cannot serve at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The system gives no random bytes.
    #[error("no randomness: {0}")]
    Randomness(getrandom::Error),
    /// A metric's name is taken: two APIs on one registry.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts, stop: CancellationToken) -> Result<Arc<Self>, SetupError> {
        let metrics = Metrics::new(&parts.registry)?;
        let ids = Ids::new().map_err(SetupError::Randomness)?;
        let poll = Duration::from_millis(parts.settings.stream_poll_ms);
        Ok(Arc::new(Self {
            hub: Arc::new(Hub::new(parts.db.clone(), poll)),
            keys: KeyCache::new(Duration::from_millis(parts.settings.key_cache_ms)),
            streams: Arc::new(Semaphore::new(parts.settings.streams.min(Semaphore::MAX_PERMITS))),
            schemas: Schemas::default(),
            backlogs: Arc::default(),
            relay: Relay::new(parts.db.clone(), Arc::clone(&parts.queue)),
            db: parts.db,
            queue: parts.queue,
            queue_prefix: parts.queue_prefix,
            sweeper: parts.sweeper,
            performer: parts.performer,
            evaluator: parts.evaluator,
            settings: parts.settings,
            limits: parts.limits,
            registry: parts.registry,
            metrics,
            ids,
            stop,
        }))
    }

    /// Reads, on the threads for reading.
    pub async fn read<R: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> StoreResult<R> + Send + 'static,
    ) -> Answer<R> {
        Ok(self.db.read(work).await??)
    }

    /// Writes, on the threads of the hot path.
    pub async fn write<R: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<R, E> + Send + 'static,
    ) -> Answer<Result<R, E>> {
        Ok(self.db.hot(work).await?)
    }

    /// After an act was committed: hints for whoever has to look, and for the streams.
    pub fn tell(&self, key: ExecutionKey, acted: &Acted) {
        holdpoint_db::failpoint::hit("api.hint.before");
        if acted.related {
            let (relay, key, status) = (self.relay.clone(), key.clone(), acted.status);
            tokio::spawn(async move { relay.after(key, status).await });
        }
        match acted.tell {
            Tell::Nobody => {}
            Tell::Workers => self.nudge(Route::Workers, &Message::Advance(vec![key.clone()])),
            Tell::Holder(session) => self.nudge(Route::Holder(session), &Message::Wake(vec![key.clone()])),
        }
        if let Some(event) = acted.new_event {
            self.hub.news(&key, event);
            self.nudge(Route::Streams, &Message::Events(vec![NewEvents { key, event }]));
        }
    }

    fn nudge(&self, route: Route, message: &Message) {
        let id = self.ids.make(SweepId::new).0.to_string();
        let body = Bytes::from(message.encode());
        self.queue.nudge(Outgoing::new(route, message.kind(), id, body));
    }
}
