//! Thunks and what they wait for, as a graph.
//!
//! **Invariant:** a [`Dag`] has no cycle and holds everything that its roots need: [`Dag::load`] checks both. (Ids are hashes,
//! so honest thunks cannot form a cycle; files on disk can claim anything.) Edges run from the thunk that makes an output to
//! the one that reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, EdgeRef, Reversed};

use crate::hash::ThunkId;
use crate::thunk::{OutputName, Thunk};

/// A directed acyclic graph of thunks.
#[derive(Clone, Debug)]
pub struct Dag {
    graph: DiGraph<Node, OutputName>,
    index: BTreeMap<ThunkId, NodeIndex>,
    /// Each after what it waits for.
    order: Vec<NodeIndex>,
}

#[derive(Clone, Debug)]
struct Node {
    id: ThunkId,
    thunk: Thunk,
}

/// Why there is no graph.
#[derive(Debug, thiserror::Error)]
pub enum DagError<E> {
    /// A thunk could not be found.
    #[error(transparent)]
    Fetch(E),
    /// A thunk waits for itself, by way of others.
    #[error("thunk {0} waits for itself")]
    Cycle(ThunkId),
}

impl Dag {
    /// The graph of these thunks and of all that they wait for, found by `fetch` (once per thunk).
    pub fn load<E>(
        roots: impl IntoIterator<Item = ThunkId>,
        mut fetch: impl FnMut(ThunkId) -> Result<Thunk, E>,
    ) -> Result<Self, DagError<E>> {
        let mut thunks = BTreeMap::new();
        let mut open: Vec<ThunkId> = roots.into_iter().collect();
        while let Some(id) = open.pop() {
            if thunks.contains_key(&id) {
                continue;
            }
            let thunk = fetch(id).map_err(DagError::Fetch)?;
            open.extend(thunk.waits_for().into_iter().map(|output| output.thunk));
            thunks.insert(id, thunk);
        }
        Self::of(thunks).map_err(DagError::Cycle)
    }

    /// # Errors
    /// A thunk on a cycle.
    fn of(thunks: BTreeMap<ThunkId, Thunk>) -> Result<Self, ThunkId> {
        let mut graph = DiGraph::with_capacity(thunks.len(), thunks.len());
        let mut index = BTreeMap::new();
        for (id, thunk) in thunks {
            index.insert(id, graph.add_node(Node { id, thunk }));
        }
        for to in graph.node_indices() {
            for output in graph[to].thunk.waits_for() {
                graph.add_edge(index[&output.thunk], to, output.name);
            }
        }
        match toposort(&graph, None) {
            Ok(order) => Ok(Self { graph, index, order }),
            Err(cycle) => Err(graph[cycle.node_id()].id),
        }
    }

    /// How many thunks there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// A thunk of the graph.
    pub fn thunk(&self, id: ThunkId) -> Option<&Thunk> {
        Some(&self.graph[*self.index.get(&id)?].thunk)
    }

    /// All thunks, each after what it waits for.
    pub fn order(&self) -> impl Iterator<Item = (ThunkId, &Thunk)> {
        self.order.iter().map(|at| (self.graph[*at].id, &self.graph[*at].thunk))
    }

    /// The thunks that this one waits for by name; none if it is not in the graph.
    pub fn parents(&self, id: ThunkId) -> BTreeSet<ThunkId> {
        self.neighbours(id, Incoming)
    }

    /// The thunks that wait for this one by name.
    pub fn children(&self, id: ThunkId) -> BTreeSet<ThunkId> {
        self.neighbours(id, Outgoing)
    }

    /// All thunks that must run before this one.
    pub fn ancestors(&self, id: ThunkId) -> BTreeSet<ThunkId> {
        let Some(&start) = self.index.get(&id) else { return BTreeSet::new() };
        let graph = Reversed(&self.graph);
        let mut search = Dfs::new(graph, start);
        let mut found = BTreeSet::new();
        while let Some(at) = search.next(graph) {
            found.insert(self.graph[at].id);
        }
        found.remove(&id);
        found
    }

    /// The chain of thunks that takes longest when every one starts as soon as it can, first to last, and how long it
    /// takes: no number of machines is faster.
    pub fn critical_path(&self, duration: impl Fn(ThunkId) -> Duration) -> (Vec<ThunkId>, Duration) {
        let mut ends = vec![Duration::ZERO; self.graph.node_count()];
        for &at in &self.order {
            let start = self.graph.neighbors_directed(at, Incoming).map(|from| ends[from.index()]).max();
            ends[at.index()] = start.unwrap_or_default() + duration(self.graph[at].id);
        }
        let latest =
            |candidates: &mut dyn Iterator<Item = NodeIndex>| candidates.max_by_key(|at| ends[at.index()]);
        let mut path = Vec::new();
        let mut next = latest(&mut self.order.iter().copied());
        let total = next.map_or(Duration::ZERO, |at| ends[at.index()]);
        while let Some(at) = next {
            path.push(self.graph[at].id);
            next = latest(&mut self.graph.neighbors_directed(at, Incoming));
        }
        path.reverse();
        (path, total)
    }

    /// The graph in Graphviz' language, nodes named by id and labelled by command and output. The same graph gives the
    /// same text.
    pub fn to_dot(&self) -> String {
        let mut dot =
            String::from("digraph thunks {\n  rankdir=LR;\n  node [shape=box, fontname=\"monospace\"];\n");
        for (id, thunk) in self.order() {
            let tooltip = quoted(&thunk.command.args.join(" "));
            let _ = writeln!(dot, "  \"{id}\" [label={}, tooltip={tooltip}];", quoted(&label(thunk)));
        }
        for edge in self.graph.edge_references() {
            let (from, to) = (self.graph[edge.source()].id, self.graph[edge.target()].id);
            let _ = writeln!(dot, "  \"{from}\" -> \"{to}\" [tooltip={}];", quoted(&edge.weight().0));
        }
        dot.push_str("}\n");
        dot
    }

    fn neighbours(&self, id: ThunkId, direction: petgraph::Direction) -> BTreeSet<ThunkId> {
        let Some(&at) = self.index.get(&id) else { return BTreeSet::new() };
        self.graph.neighbors_directed(at, direction).map(|at| self.graph[at].id).collect()
    }
}

/// What to call a thunk in front of a person: its program and its first output, as `gcc a.o`.
pub fn label(thunk: &Thunk) -> String {
    let program = thunk.command.program.file_name();
    let called = thunk.command.args.first().map_or(program, |name| name.rsplit('/').next().unwrap_or(name));
    match thunk.outputs.values().next() {
        Some(output) => format!("{called} {}", output.file_name()),
        None => called.to_owned(),
    }
}

/// A quoted string of Graphviz' language, where a backslash starts an escape of its own.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{path, sample};
    use crate::thunk::{Entry, Mode, Object, OutputRef};
    use proptest::prelude::*;
    use std::convert::Infallible;

    fn id(number: u64) -> ThunkId {
        ThunkId::synthetic(number)
    }

    /// A thunk that waits for these.
    fn waiting(for_these: &[u64]) -> Thunk {
        let mut thunk = sample();
        thunk.inputs.clear();
        for number in for_these {
            let output = OutputRef { thunk: id(*number), name: "/w/a.o".into() };
            let entry = Entry { object: Object::Output(output), mode: Mode::Regular };
            thunk.inputs.insert(path(&format!("/w/{number}")), entry);
        }
        thunk
    }

    /// Thunk `n` waits for `edges[n]`.
    fn graph(edges: &[&[u64]], roots: &[u64]) -> Result<Dag, DagError<Infallible>> {
        let by_id: BTreeMap<ThunkId, &[u64]> = (0..).map(id).zip(edges.iter().copied()).collect();
        Dag::load(roots.iter().copied().map(id), |id| Ok(waiting(by_id[&id])))
    }

    const DIAMOND: [&[u64]; 5] = [&[], &[0], &[0], &[1, 2], &[]];

    #[test]
    fn only_what_the_roots_need_is_loaded() {
        assert_eq!(graph(&DIAMOND, &[3]).unwrap().len(), 4);
        assert_eq!(graph(&DIAMOND, &[1, 4]).unwrap().len(), 3);
        assert!(graph(&DIAMOND, &[]).unwrap().is_empty());
    }

    #[test]
    fn neighbours_and_ancestors_are_found() {
        let dag = graph(&DIAMOND, &[3]).unwrap();
        assert_eq!(dag.parents(id(3)), [id(1), id(2)].into());
        assert_eq!(dag.children(id(0)), [id(1), id(2)].into());
        assert_eq!(dag.ancestors(id(3)), [id(0), id(1), id(2)].into());
        assert_eq!(dag.ancestors(id(0)), [].into());
        assert_eq!(dag.ancestors(id(99)), [].into());
    }

    #[test]
    fn a_cycle_is_refused() {
        let result = graph(&[&[2], &[0], &[1]], &[0]);
        assert!(matches!(result, Err(DagError::Cycle(_))));
        assert!(matches!(graph(&[&[0]], &[0]), Err(DagError::Cycle(found)) if found == id(0)));
    }

    #[test]
    fn a_thunk_that_cannot_be_fetched_is_an_error() {
        let result = Dag::load([id(0)], |_| Err("gone"));
        assert!(matches!(result, Err(DagError::Fetch("gone"))));
    }

    #[test]
    fn the_critical_path_is_the_longest_chain() {
        let dag = graph(&DIAMOND, &[3, 4]).unwrap();
        let seconds = |durations: [u64; 5]| {
            move |thunk| {
                Duration::from_secs((0..5).find(|n| id(*n) == thunk).map_or(0, |n| durations[n as usize]))
            }
        };
        let (path, total) = dag.critical_path(seconds([1, 5, 2, 1, 3]));
        assert_eq!((path, total), (vec![id(0), id(1), id(3)], Duration::from_secs(7)));
        let (path, total) = dag.critical_path(seconds([1, 1, 1, 1, 9]));
        assert_eq!((path, total), (vec![id(4)], Duration::from_secs(9)));
        let empty = graph(&DIAMOND, &[]).unwrap();
        assert_eq!(empty.critical_path(|_| Duration::ZERO), (vec![], Duration::ZERO));
    }

    #[test]
    fn dot_names_commands_and_escapes_them() {
        let mut thunk = waiting(&[]);
        thunk.command.args[0] = "/usr/bin/a\"b".into();
        let dag = Dag::load([id(0)], |_| Ok::<_, Infallible>(thunk.clone())).unwrap();
        let dot = dag.to_dot();
        assert!(dot.contains("[label=\"a\\\"b a.o\""), "{dot}");
        assert!(dot.contains("-DX=\\\"\u{e4}\\n\\\""), "{dot}");
        let diamond = graph(&DIAMOND, &[3]).unwrap().to_dot();
        assert_eq!(diamond.matches(" -> ").count(), 4);
        assert_eq!(diamond, graph(&DIAMOND, &[3]).unwrap().to_dot());
    }

    proptest! {
        #[test]
        fn each_comes_after_what_it_waits_for(
            edges in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 0..4), 1..40),
        ) {
            // Thunk n waits only for smaller ones.
            let edges: Vec<Vec<u64>> = edges.iter().enumerate()
                .map(|(n, waits)| if n == 0 { vec![] } else { waits.iter().map(|i| i.index(n) as u64).collect() })
                .collect();
            let edges: Vec<&[u64]> = edges.iter().map(Vec::as_slice).collect();
            let roots: Vec<u64> = (0..edges.len() as u64).collect();
            let dag = graph(&edges, &roots).unwrap();
            let mut seen = BTreeSet::new();
            for (id, thunk) in dag.order() {
                prop_assert!(thunk.waits_for().iter().all(|output| seen.contains(&output.thunk)));
                prop_assert!(dag.ancestors(id).is_subset(&seen));
                seen.insert(id);
            }
            prop_assert_eq!(seen.len(), edges.len());
        }
    }
}
