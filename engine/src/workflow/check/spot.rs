//! A node of the document together with its pointer.

use crate::workflow::read::{Kind, Member, Node, Place, WorkflowError, below};

/// Where the checks stand.
#[derive(Debug, Clone)]
pub(super) struct Spot<'n> {
    pub node: &'n Node,
    pub pointer: String,
    /// Of the key where it has one: what a message about a whole member points at.
    pub key_place: Place,
}

impl<'n> Spot<'n> {
    pub fn root(node: &'n Node) -> Self {
        Self { node, pointer: String::new(), key_place: node.place }
    }

    /// A member of this object.
    pub fn member(&self, member: &'n Member) -> Self {
        let pointer = below(&self.pointer, &member.key);
        Self { node: &member.value, pointer, key_place: member.place }
    }

    /// The member of that key.
    pub fn get(&self, key: &str) -> Option<Self> {
        self.members().iter().find(|member| member.key == key).map(|member| self.member(member))
    }

    /// The members of an object; of anything else none.
    pub fn members(&self) -> &'n [Member] {
        match &self.node.kind {
            Kind::Map(members) => members,
            _ => &[],
        }
    }

    /// The items of a list; of anything else none.
    pub fn items(&self) -> impl Iterator<Item = Spot<'n>> + use<'n> {
        let items: &'n [Node] = match &self.node.kind {
            Kind::List(items) => items,
            _ => &[],
        };
        let pointer = self.pointer.clone();
        items.iter().enumerate().map(move |(index, node)| Spot {
            node,
            pointer: format!("{pointer}/{index}"),
            key_place: node.place,
        })
    }

    pub fn text(&self) -> Option<&'n str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An error about the value.
    pub fn wrong(&self, message: impl Into<String>) -> WorkflowError {
        self.at(self.node.place, message.into())
    }

    /// An error about the member as a whole, its key first.
    pub fn wrong_key(&self, message: impl Into<String>) -> WorkflowError {
        self.at(self.key_place, message.into())
    }

    fn at(&self, place: Place, message: String) -> WorkflowError {
        WorkflowError { line: place.line, column: place.column, pointer: self.pointer.clone(), message }
    }
}
