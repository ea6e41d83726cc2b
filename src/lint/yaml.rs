//! YAML to a tree that knows where each node is written. Aliases and merge keys (`<<`) are written out, within limits.
//!
//! What is no plain tree of texts, numbers, lists and mappings is refused as docker's own reader (go-yaml) refuses it:
//! a doubled key, a key that is no text, an alias of nothing or of itself. Only the first document of a file is read,
//! as docker does.

use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::scalar;

/// The largest file: stacks of hundreds of services are some 100 KiB.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// The most that a file may become when its aliases are written out: see [`Node::weight`].
const WEIGHT_MAX: usize = 4 << 20;
/// What a node weighs besides its text, which holds the nodes of a file below some 260,000.
const NODE_WEIGHT: usize = 16;
/// How deep nodes lie in each other at most. The deepest that the compose specification defines is below 10.
const DEPTH_MAX: usize = 64;

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl Mark {
    /// Where a file begins.
    pub(super) const START: Self = Self { line: 1, column: 1 };

    fn of(span: Span) -> Self {
        Self { line: span.start.line().max(1), column: span.start.col() + 1 }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: Mark,
    pub(super) value: Value,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool,
    Integer(i64),
    /// A number that is no integer, or too large for one.
    Number,
    Text(String),
    List(Vec<Node>),
    Map(Map),
}

/// Entries in the order of the file; those that a merge key brought in follow.
pub(super) type Map = Vec<(Key, Node)>;

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) at: Mark,
    pub(super) name: String,
}

impl Node {
    /// The entry of a mapping.
    pub(super) fn entry(&self, name: &str) -> Option<(&Key, &Self)> {
        self.entries().iter().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }

    /// The entries of a mapping; none of anything else.
    pub(super) fn entries(&self) -> &[(Key, Self)] {
        if let Value::Map(map) = &self.value { map } else { &[] }
    }

    /// The members of a list; none of anything else.
    pub(super) fn members(&self) -> &[Self] {
        if let Value::List(list) = &self.value { list } else { &[] }
    }

    pub(super) const fn is_null(&self) -> bool {
        matches!(self.value, Value::Null)
    }

    /// What it is, in words.
    pub(super) const fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "nothing",
            Value::Bool => "true or false",
            Value::Integer(_) => "a whole number",
            Value::Number => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// What it and all in it take: bytes of text, and [`NODE_WEIGHT`] for each node.
    fn weight(&self) -> usize {
        NODE_WEIGHT
            + match &self.value {
                Value::Text(text) => text.len(),
                Value::List(list) => list.iter().map(Self::weight).sum(),
                Value::Map(map) => map.iter().map(|(key, node)| key.name.len() + node.weight()).sum(),
                _ => 0,
            }
    }
}

/// A file's first document, and where a second one begins.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) root: Node,
    pub(super) second: Option<Mark>,
}

/// Reads a file's bytes.
///
/// # Errors
/// Where and why it is no YAML that can be a stack.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, (Mark, String)> {
    if bytes.len() > FILE_BYTES_MAX {
        return Err((Mark::START, format!("the file is larger than {} MiB", FILE_BYTES_MAX >> 20)));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let line = before.matches('\n').count() + 1;
        (Mark { line, column }, "a byte that is no UTF-8: save the file as UTF-8".to_owned())
    })?;
    let mut tree = Tree::default();
    let mut root: Option<Node> = None;
    let mut second = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let at = error.marker();
            (Mark { line: at.line().max(1), column: at.col() + 1 }, format!("no YAML: {}", error.info()))
        })?;
        if root.is_some() {
            // Docker reads no further either: what follows may be anything.
            match event {
                Event::DocumentEnd => continue,
                Event::DocumentStart(_) => second = Some(Mark::of(span)),
                _ => {}
            }
            break;
        }
        root = tree.take(event, Mark::of(span))?;
    }
    let root = root.ok_or((Mark::START, "the file is empty".to_owned()))?;
    Ok(Document { root, second })
}

/// A list or mapping that has begun.
struct Open {
    at: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Map,
        names: BTreeMap<String, usize>,
        merges: Vec<Node>,
        /// The key whose value comes next.
        key: Option<Key>,
    },
}

/// The tree as it grows.
#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    /// The nodes with an anchor, by the parser's number, and what each weighs.
    anchors: BTreeMap<usize, (Node, usize)>,
    weight: usize,
}

impl Tree {
    /// Takes one event; returns the root when it is complete.
    fn take(&mut self, event: Event<'_>, at: Mark) -> Result<Option<Node>, (Mark, String)> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.add_weight(NODE_WEIGHT + text.len(), at)?;
                let is_plain = style == ScalarStyle::Plain;
                let value = match tag.as_deref() {
                    None if is_plain => resolve(&text),
                    Some(tag) if tag.is_yaml_core_schema() && tag.suffix != "str" => resolve(&text),
                    _ => Value::Text(text.into_owned()),
                };
                let is_merge = is_plain && matches!(&value, Value::Text(text) if text == "<<");
                self.complete(Node { at, value }, anchor, is_merge)
            }
            Event::SequenceStart(anchor, tag) => self.begin(at, anchor, Content::List(Vec::new()), tag.as_deref()),
            Event::MappingStart(anchor, tag) => {
                let content =
                    Content::Map { entries: Vec::new(), names: BTreeMap::new(), merges: Vec::new(), key: None };
                self.begin(at, anchor, content, tag.as_deref())
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else { return Ok(None) };
                let value = match open.content {
                    Content::List(list) => Value::List(list),
                    Content::Map { entries, names, merges, .. } => Value::Map(merged(entries, names, merges)?),
                };
                self.complete(Node { at: open.at, value }, open.anchor, false)
            }
            Event::Alias(anchor) => {
                let Some((node, weight)) = self.anchors.get(&anchor) else {
                    return Err((at, "the alias is of a node that it lies in".to_owned()));
                };
                let (node, weight) = (node.clone(), *weight);
                self.add_weight(weight, at)?;
                self.complete(node, 0, false)
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                Ok(None)
            }
        }
    }

    fn begin(
        &mut self,
        at: Mark,
        anchor: usize,
        content: Content,
        tag: Option<&Tag>,
    ) -> Result<Option<Node>, (Mark, String)> {
        if tag.is_some_and(|tag| tag.is_yaml_core_schema() && !matches!(&*tag.suffix, "map" | "seq")) {
            return Err((at, "the tag is of a scalar, and this is none".to_owned()));
        }
        if let Some(Open { content: Content::Map { key: None, .. }, .. }) = self.open.last() {
            return Err((at, "a key is no text".to_owned()));
        }
        if self.open.len() >= DEPTH_MAX {
            return Err((at, format!("nodes lie in each other deeper than {DEPTH_MAX}")));
        }
        self.add_weight(NODE_WEIGHT, at)?;
        self.open.push(Open { at, anchor, content });
        Ok(None)
    }

    fn add_weight(&mut self, weight: usize, at: Mark) -> Result<(), (Mark, String)> {
        self.weight += weight;
        if self.weight > WEIGHT_MAX {
            return Err((at, format!("larger than {} MiB with its aliases written out", WEIGHT_MAX >> 20)));
        }
        Ok(())
    }

    /// Puts a complete node where it belongs.
    fn complete(&mut self, node: Node, anchor: usize, is_merge: bool) -> Result<Option<Node>, (Mark, String)> {
        if anchor > 0 {
            let weight = node.weight();
            self.add_weight(weight, node.at)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        let Some(open) = self.open.last_mut() else { return Ok(Some(node)) };
        match &mut open.content {
            Content::List(list) => list.push(node),
            Content::Map { entries, names, merges, key } => match key.take() {
                // No key is empty: the merge key's name is kept so.
                Some(key) if key.name.is_empty() => merges.push(node),
                Some(key) => entries.push((key, node)),
                None => *key = Some(new_key(node, is_merge, names)?),
            },
        }
        Ok(None)
    }
}

/// The key that a node is.
fn new_key(node: Node, is_merge: bool, names: &mut BTreeMap<String, usize>) -> Result<Key, (Mark, String)> {
    let at = node.at;
    let name = match node.value {
        Value::Text(name) if !name.is_empty() => name,
        Value::Text(_) => return Err((at, "a key is empty".to_owned())),
        _ => return Err((at, format!("a key is {}: write it in quotes", node.kind()))),
    };
    if let Some(line) = names.insert(name.clone(), at.line) {
        return Err((at, format!("the key `{name}` is here twice; it is in line {line} too")));
    }
    Ok(Key { at, name: if is_merge { String::new() } else { name } })
}

/// A mapping with what its merge key brings in: its own entries win, and of several mappings the first.
fn merged(mut entries: Map, names: BTreeMap<String, usize>, merges: Vec<Node>) -> Result<Map, (Mark, String)> {
    let mut known: BTreeSet<String> = names.into_keys().collect();
    for merge in merges {
        let at = merge.at;
        let sources = match merge.value {
            Value::List(list) => list,
            Value::Map(_) => vec![merge],
            _ => return Err((at, "a merge key takes a mapping or a list of mappings".to_owned())),
        };
        for source in sources {
            let Value::Map(map) = source.value else {
                return Err((source.at, "a merge key takes a mapping or a list of mappings".to_owned()));
            };
            let new = map.into_iter().filter(|(key, _)| known.insert(key.name.clone()));
            entries.extend(new);
        }
    }
    Ok(entries)
}

/// What a plain scalar stands for, as go-yaml reads those of the core schema.
fn resolve(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Value::Bool,
        ".nan" | ".NaN" | ".NAN" => return Value::Number,
        _ => {}
    }
    if let Some(number) = scalar::integer(text) {
        return Value::Integer(number);
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let is_infinite = matches!(digits, ".inf" | ".Inf" | ".INF");
    let starts_well = digits.starts_with(|char: char| char.is_ascii_digit() || char == '.');
    // Rust reads "inf", "nan" and "infinity" too; those begin with no digit.
    if is_infinite || starts_well && digits != "." && text.parse::<f64>().is_ok() {
        return Value::Number;
    }
    Value::Text(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tree in one line.
    fn flat(node: &Node) -> String {
        match &node.value {
            Value::Null => "~".to_owned(),
            Value::Bool => "bool".to_owned(),
            Value::Integer(number) => number.to_string(),
            Value::Number => "number".to_owned(),
            Value::Text(text) => format!("'{text}'"),
            Value::List(list) => format!("[{}]", list.iter().map(flat).collect::<Vec<_>>().join(" ")),
            Value::Map(map) => {
                let entries = map.iter().map(|(key, node)| format!("{}={}", key.name, flat(node)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
            }
        }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let found = match parse(text.as_bytes()) {
            Ok(document) => flat(&document.root),
            Err((at, why)) => format!("{}:{}: {why}", at.line, at.column),
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn scalars_lists_and_mappings() {
        check("a: 1\nb: [x, '1', ~, 0.5, yes]\nc:\n", "{a=1 b=['x' '1' ~ number 'yes'] c=~}");
        check("a: !!str 1\nb: !!int '2'\nc: !local 3\n", "{a='1' b=2 c='3'}");
        check("a: |\n  x\n  y\n", "{a='x\ny\n'}");
        check("\u{feff}a: 1\r\nb:\r\n  - x\r\n", "{a=1 b=['x']}");
    }

    #[test]
    fn aliases_and_merge_keys_are_written_out() {
        check("a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\n", "{a={p=1 q=2} b={q=3 p=1}}");
        check("a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc:\n  <<: [*x, *y]\n", "{a={p=1} b={p=2 q=2} c={p=1 q=2}}");
        check("a: &x [1]\nb: *x\n", "{a=[1] b=[1]}");
        check("\"<<\": 1\n", "{<<=1}");
        check("a: {<<: 1}\n", "1:9: a merge key takes a mapping or a list of mappings");
        check("a: &x [*x]\n", "1:8: the alias is of a node that it lies in");
    }

    #[test]
    fn what_is_no_tree_is_refused_where_it_is() {
        check("", "1:1: the file is empty");
        check("# only this\n", "1:1: the file is empty");
        check("a: 1\nb: 2\na: 3\n", "3:1: the key `a` is here twice; it is in line 1 too");
        check("1: a\n", "1:1: a key is a whole number: write it in quotes");
        check("? [a]\n: b\n", "1:3: a key is no text");
        check("\"\": b\n", "1:1: a key is empty");
        check(&"[".repeat(65), "1:65: nodes lie in each other deeper than 64");
        let mut bomb = "a0: &a0 [xxxxxxxx, xxxxxxxx]\n".to_owned();
        for level in 1..30 {
            bomb.push_str(&format!("a{level}: &a{level} [*a{0}, *a{0}, *a{0}]\n", level - 1));
        }
        let Err((_, why)) = parse(bomb.as_bytes()) else { panic!("a bomb goes off") };
        assert_eq!(why, "larger than 4 MiB with its aliases written out");
        assert_eq!(parse(b"a: \xff\n").map(|_| ()).map_err(|(at, _)| (at.line, at.column)), Err((1, 4)));
    }

    #[test]
    fn what_follows_the_first_document_is_not_read() {
        let document = parse(b"a: 1\n---\nb: [\n").expect("the first is good");
        assert_eq!((flat(&document.root), document.second.map(|mark| mark.line)), ("{a=1}".to_owned(), Some(2)));
    }

    #[test]
    fn a_plain_scalar_is_read_as_go_yaml_reads_it() {
        assert!(matches!(resolve("1e3"), Value::Number) && matches!(resolve("1.2.3"), Value::Text(_)));
        assert!(matches!(resolve("inf"), Value::Text(_)) && matches!(resolve("-.inf"), Value::Number));
    }
}
