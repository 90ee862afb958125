//! Steps that send requests.

use std::cell::RefCell;
use std::net::IpAddr;
use std::process::Stdio;

use super::judge::{Answer, judge, node_addresses, pause, read, requests};
use super::{PATIENCE, Performance, STEP, StepError, until};
use crate::clock;
use crate::cluster::{PlaceError, Where};
use crate::scenario::{Expectation, Finding, Kind, Load, Object, Target, Transport};

impl Performance<'_> {
    async fn ask(
        &self,
        from: &Where,
        to: &Target,
        more: &[String],
    ) -> Result<tokio::process::Command, StepError> {
        self.await_place(from).await?;
        let cluster = self.lab.cluster();
        let binary = cluster.spec().binary.to_string_lossy().into_owned();
        let mut command = cluster.command(from, &binary)?;
        let address = self.refer(&to.address).await?;
        let (host, path) = match address.split_once('/') {
            Some((host, path)) => (host.to_owned(), format!("/{path}")),
            None => (address, "/".to_owned()),
        };
        command.args(["ask", &host, "--path", &path]).args(more);
        if to.protocol == Transport::Udp {
            command.args(["--protocol", "udp"]);
        }
        if let Some(port) = to.from_port {
            command.args(["--from-port", &port.to_string()]);
        }
        if to.bytes > 0 {
            command.args(["--bytes", &to.bytes.to_string()]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        Ok(command)
    }

    pub(super) async fn load(&mut self, load: &Load) -> Result<(), StepError> {
        let count = (load.lasting.as_secs_f64() * f64::from(load.rate)).ceil();
        let more = [
            "--rate".to_owned(),
            load.rate.to_string(),
            "--count".to_owned(),
            format!("{count:.0}"),
        ];
        let mut command = self.ask(&load.from, &load.to, &more).await?;
        let ended = tokio::spawn(async move { command.output().await });
        self.loads.insert(load.name.clone(), ended);
        Ok(())
    }

    pub(super) async fn expect_load(
        &mut self,
        name: &str,
        allowed: usize,
    ) -> Result<String, StepError> {
        let load = self
            .loads
            .remove(name)
            .ok_or_else(|| StepError::NoLoad(name.to_owned()))?;
        let output = load.await.map_err(std::io::Error::other).flatten();
        let output = output.map_err(|error| StepError::File(format!("load {name}: {error}")))?;
        let answers = read(&output.stdout);
        let failed: Vec<(usize, &Answer)> = (1..)
            .zip(&answers)
            .filter(|(_, answer)| !matches!(answer, Answer::Pod { .. }))
            .collect();
        if failed.len() > allowed || answers.is_empty() {
            let first = failed.first().map_or_else(
                || "it never asked".to_owned(),
                |(number, answer)| format!("number {number}, {answer}"),
            );
            return Err(StepError::Failures {
                failed: failed.len(),
                asked: answers.len(),
                allowed,
                first,
            });
        }
        Ok(format!(
            "{} of {} requests failed",
            failed.len(),
            answers.len()
        ))
    }

    pub(super) async fn expect(&self, expectation: &Expectation) -> Result<String, StepError> {
        let enter = |source| PlaceError::Enter {
            place: expectation.from.clone(),
            source,
        };
        let own = self.own_addresses(&expectation.from, &expectation.finding);
        let own = own.await?;
        let mut more = ["--timeout", "1", "--count"].map(str::to_owned).to_vec();
        more.push(requests(&expectation.finding).to_string());
        if matches!(expectation.finding, Finding::Code { .. }) {
            more.push("--code".to_owned());
        }
        let end = clock::instant() + expectation.within;
        let (pause, mut answers) = (pause(&expectation.finding), Vec::new());
        loop {
            let command = self.ask(&expectation.from, &expectation.to, &more);
            let output = command.await?.output().await.map_err(enter)?;
            if pause.is_none() {
                answers.clear();
            }
            answers.extend(read(&output.stdout));
            match judge(&expectation.finding, &answers, &own) {
                Ok(measured) => return Ok(measured),
                Err(missing) if clock::instant() >= end => {
                    return Err(StepError::Late {
                        missing: missing + String::from_utf8_lossy(&output.stderr).trim(),
                        within: expectation.within,
                    });
                }
                Err(_) => tokio::time::sleep(pause.unwrap_or(STEP)).await,
            }
        }
    }

    /// The addresses that the client's own are, where the finding asks for them.
    async fn own_addresses(
        &self,
        from: &Where,
        finding: &Finding,
    ) -> Result<Vec<IpAddr>, StepError> {
        let needed = matches!(
            finding,
            Finding::Answered { seen: Some(_), .. } | Finding::OnlyBy { seen: Some(_), .. }
        );
        if !needed {
            return Ok(Vec::new());
        }
        Ok(match from {
            Where::Pod { namespace, name } => {
                let pod = Object {
                    kind: Kind::find("pod").map_err(StepError::File)?,
                    namespace: namespace.clone(),
                    name: name.clone(),
                };
                self.pod_addresses(&pod).await?
            }
            Where::Node(name) => node_addresses(name),
            Where::Outside => OUTSIDE
                .iter()
                .filter_map(|text| text.parse().ok())
                .collect(),
            Where::Fabric => Vec::new(),
        })
    }
}

impl Performance<'_> {
    /// The addresses of a Pod, as soon as it has some.
    async fn pod_addresses(&self, pod: &Object) -> Result<Vec<IpAddr>, StepError> {
        let client = self.client().await?;
        let found = RefCell::new(Vec::new());
        until(PATIENCE, || async {
            let object = Self::get(&client, pod).await?;
            let list = object["status"]["podIPs"].as_array().into_iter().flatten();
            let addresses: Vec<IpAddr> = list
                .filter_map(|entry| entry["ip"].as_str()?.parse().ok())
                .collect();
            if addresses.is_empty() {
                return Err(format!("{pod} has no address"));
            }
            found.replace(addresses);
            Ok(())
        })
        .await?;
        Ok(found.take())
    }
}

/// The outside host.
const OUTSIDE: [&str; 2] = ["172.30.0.100", "fd00:30::100"];
