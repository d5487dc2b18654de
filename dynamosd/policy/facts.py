# SPDX-License-Identifier: GPL-2.0-or-later
"""What a condition asks of the host's labels, as inputs that are so (1) or not (0).

A label is a text, and everything else in a condition is a number. So each comparison of a label
with a text becomes an input of its own, ``label("role") == "db"``: what is recorded and replayed
is what it came to, and conditions that have no label cost nothing more.
"""

from __future__ import annotations

from dynamosd.hostsignals import LABEL
from dynamosd.policy.expression import EQUALS, NOT, NOT_EQUALS, OR, TRUTH
from dynamosd.policy.syntax import Call, List, Literal, Node

IN = "in_list"


def rewrite(node: Node) -> Node:
    """Return a tree in which each comparison of a label with texts has become facts.

    A fact is a call of `LABEL` with two arguments, the label and the text.
    """
    if not isinstance(node, Call):
        return node
    found = _facts(node)
    if found is not None:
        return found
    arguments = tuple(map(rewrite, node.arguments))
    return Call(node.function, node.overload, node.type, arguments, node.offset)


def _facts(call: Call) -> Node | None:
    """Return what a comparison comes to in facts; None if it is not one of a label with texts."""
    label, texts = _sides(call)
    if not (isinstance(label, Call) and label.function == LABEL):
        return None
    if not all(isinstance(each, Literal) for each in texts):
        return None
    facts = tuple(_fact(label, text, call.offset) for text in texts)
    if call.overload == NOT_EQUALS:
        return Call(NOT, NOT, "bool", facts, call.offset)
    if len(facts) > 1:
        return Call(OR, OR, "bool", facts, call.offset)
    return facts[0] if facts else Literal(False, call.offset)


def _sides(call: Call) -> tuple[Node | None, tuple[Node, ...]]:
    """Return what may be a label, and what it is compared with: texts, for types are checked."""
    if call.overload == IN and isinstance(call.arguments[1], List):
        return call.arguments[0], call.arguments[1].items
    if call.overload not in {EQUALS, NOT_EQUALS}:
        return None, ()
    left, right = call.arguments
    return (right, (left,)) if isinstance(left, Literal) else (left, (right,))


def _fact(label: Call, text: Node, offset: int) -> Node:
    fact = Call(LABEL, LABEL, "double", (*label.arguments, text), offset)
    return Call(TRUTH, TRUTH, "bool", (fact,), offset)
