//! The compiled nftables program as a judge: no kernel, no privilege.

use std::collections::BTreeSet;
use std::net::IpAddr;

use daymark_case::{Judge, Outcome, Seen, Spread};
use daymark_dataplane::nft::TableFlags;
use daymark_dataplane::nft::compile::Compiler;
use daymark_dataplane::nft::program::Program;
use daymark_dataplane::nft::trace;
use daymark_model::{Delta, Packet, World};

/// Follows a case with a compiler and walks its program.
pub(crate) struct TraceJudge {
    compiler: Compiler,
    spoil: Box<dyn Fn(&mut Program)>,
    program: Program,
    own: BTreeSet<IpAddr>,
}

impl TraceJudge {
    /// A judge of what the compiler makes.
    pub(crate) fn new() -> Self {
        Self::spoiled(|_| ())
    }

    /// A judge of that program after `spoil` has been at it: to show that the cases notice.
    pub(crate) fn spoiled(spoil: impl Fn(&mut Program) + 'static) -> Self {
        let (compiler, _) = Compiler::new(TableFlags::NONE);
        Self {
            compiler,
            spoil: Box::new(spoil),
            program: Program::default(),
            own: BTreeSet::new(),
        }
    }
}

impl Judge for TraceJudge {
    fn enter(&mut self, world: &World, delta: &Delta) -> Result<(), String> {
        self.compiler.update(delta);
        self.program = self.compiler.program().clone();
        (self.spoil)(&mut self.program);
        self.own.clone_from(&world.desired().own_addresses);
        Ok(())
    }

    fn see(&mut self, packet: &Packet) -> Result<Seen, String> {
        let said = |error: trace::TraceError| error.to_string();
        let host = trace::Host {
            program: &self.program,
            addresses: &self.own,
        };
        let outcome = match trace::trace(host, packet).map_err(said)? {
            trace::Outcome::Forward(targets) => Outcome::Forward(targets),
            trace::Outcome::Refused => Outcome::Refuse(None),
            trace::Outcome::Dropped => Outcome::Drop(None),
            trace::Outcome::Untouched => Outcome::Untouched,
            trace::Outcome::Mixed(singles) => Outcome::Other(format!("one of {singles:?}")),
        };
        let kept = trace::kept_by(host, packet).map_err(said)?;
        Ok(Seen {
            outcome,
            spread: kept.map_or(Spread::Anew, Spread::Together),
        })
    }
}
