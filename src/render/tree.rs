//! Data with expressions in its strings: bodies, parameters, query values, sandbox replies.
//!
//! Bodies are built as data, never as text: any text in any field arrives as that text (S15).

use super::context::{Context, Root, Scope};
use super::error::RenderError;
use super::leaf::Leaf;
use crate::config::Tree;
use crate::model::{Map, Problems, Str, Value};

/// What becomes of keys whose value is null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nulls {
    /// They are left out.
    Drop,
    /// They are sent.
    Keep,
}

/// A compiled tree.
#[derive(Debug)]
pub struct TreeTemplate {
    node: Node,
    nulls: Nulls,
}

#[derive(Debug)]
enum Node {
    Constant(Value),
    Leaf(Box<Leaf>),
    List(Vec<Node>),
    Map(Vec<(Str, Node)>),
}

impl TreeTemplate {
    /// Compiles a tree; what is wrong with it is added to `problems`.
    pub fn compile(tree: &Tree, scope: &Scope, nulls: Nulls, problems: &mut Problems) -> Option<Self> {
        Node::compile(tree, scope, problems).map(|node| Self { node, nulls })
    }

    /// The value of the tree. Absent entries and elements are gone; the whole is absent when it is
    /// `omit` itself.
    pub fn value(&self, context: &Context) -> Result<Value, RenderError> {
        let mut value = self.node.value(context)?;
        prune(&mut value, self.nulls);
        Ok(value)
    }

    /// What becomes of nulls in it.
    pub(super) const fn nulls(&self) -> Nulls {
        self.nulls
    }

    /// Whether the whole tree is one leaf that is exactly this root.
    pub(super) fn is_root(&self, root: Root) -> bool {
        matches!(&self.node, Node::Leaf(leaf) if leaf.is_path(root))
    }

    /// Whether the whole tree is one leaf that is exactly this field of a root.
    pub(super) fn is_path(&self, root: Root, field: &str) -> bool {
        matches!(&self.node, Node::Leaf(leaf) if leaf.is_field(root, field))
    }

    /// Every path it reads, such as `record.email`.
    pub fn reads(&self) -> impl Iterator<Item = String> {
        let mut found = Vec::new();
        self.node.reads(&mut found);
        found.into_iter()
    }
}

impl Node {
    fn compile(tree: &Tree, scope: &Scope, problems: &mut Problems) -> Option<Self> {
        Some(match tree {
            Tree::Null(_) => Self::Constant(Value::Null),
            Tree::Bool(value, _) => Self::Constant(Value::Bool(*value)),
            Tree::Number(number, _) => Self::Constant(Value::Number(number.clone())),
            Tree::Text(text) => Self::Leaf(Box::new(Leaf::compile(text, scope, problems)?)),
            Tree::List(items, _) => {
                let all: Vec<_> = items.iter().map(|item| Self::compile(item, scope, problems)).collect();
                Self::List(all.into_iter().collect::<Option<_>>()?)
            }
            Tree::Map(entries, _) => {
                let all: Vec<_> = entries
                    .iter()
                    .map(|(name, item)| {
                        Self::compile(item, scope, problems)
                            .map(|node| (Str::from(name.value.as_str()), node))
                    })
                    .collect();
                Self::Map(all.into_iter().collect::<Option<_>>()?)
            }
        })
    }

    fn value(&self, context: &Context) -> Result<Value, RenderError> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Leaf(leaf) => leaf.value(context)?,
            Self::List(items) => {
                Value::Array(items.iter().map(|item| item.value(context)).collect::<Result<_, _>>()?)
            }
            Self::Map(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (name, node) in entries {
                    map.push(Str::clone(name), node.value(context)?);
                }
                Value::Object(map)
            }
        })
    }

    fn reads(&self, found: &mut Vec<String>) {
        match self {
            Self::Constant(_) => {}
            Self::Leaf(leaf) => found.extend(leaf.reads()),
            Self::List(items) => items.iter().for_each(|item| item.reads(found)),
            Self::Map(entries) => entries.iter().for_each(|(_, item)| item.reads(found)),
        }
    }
}

/// Takes out absent entries and elements and, unless they are kept, keys whose value is null.
pub(super) fn prune(value: &mut Value, nulls: Nulls) {
    let gone = |value: &Value| match value {
        Value::Absent => true,
        Value::Null => nulls == Nulls::Drop,
        _ => false,
    };
    match value {
        Value::Array(items) => {
            items.retain(|item| !matches!(item, Value::Absent));
            for item in items {
                prune(item, nulls);
            }
        }
        Value::Object(map) => {
            if map.iter().any(|(_, value)| gone(value)) {
                let old = std::mem::take(map);
                *map = old.into_iter().filter(|(_, value)| !gone(value)).collect();
            }
            for (_, value) in map {
                prune(value, nulls);
            }
        }
        _ => {}
    }
}
