//! Routing: which operation a method and a path mean. A tree of path segments, built once from the route table;
//! a look-up costs one step per segment, whatever the size of the table. Pure.

use std::borrow::Cow;

use super::Route;

/// The table, arranged for look-up.
pub(super) struct Tree {
    routes: Vec<Route>,
    /// Names of each route's parameters, in the order of the path.
    names: Vec<Vec<&'static str>>,
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    literals: Vec<(&'static str, usize)>,
    parameter: Option<usize>,
    /// Routes that end here.
    routes: Vec<usize>,
}

/// What a path means.
pub(super) enum Found<'a> {
    Route {
        route: &'a Route,
        parameters: Vec<(&'static str, String)>,
    },
    /// The path exists with these methods only.
    Methods(Vec<&'static str>),
    Nothing,
}

impl Tree {
    pub(super) fn new(routes: Vec<Route>) -> Self {
        let mut tree = Self { names: Vec::new(), nodes: vec![Node::default()], routes: Vec::new() };
        for route in routes {
            tree.insert(route);
        }
        tree
    }

    fn insert(&mut self, route: Route) {
        let mut at = 0;
        let mut names = Vec::new();
        for segment in segments(route.path) {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let known = match name {
                Some(_) => self.nodes[at].parameter,
                None => self.nodes[at].literals.iter().find(|(text, _)| *text == segment).map(|(_, to)| *to),
            };
            let next = known.unwrap_or_else(|| {
                self.nodes.push(Node::default());
                let next = self.nodes.len() - 1;
                match name {
                    Some(_) => self.nodes[at].parameter = Some(next),
                    None => self.nodes[at].literals.push((segment, next)),
                }
                next
            });
            names.extend(name);
            at = next;
        }
        if self.nodes[at].routes.iter().any(|known| self.routes[*known].method == route.method) {
            log::error!(
                "{} {} stands twice in the route table; the first one serves",
                route.method,
                route.path
            );
            return;
        }
        self.nodes[at].routes.push(self.routes.len());
        self.routes.push(route);
        self.names.push(names);
    }

    /// Looks a path (below `/api/v1`, percent-encoded) up. Literal segments win over parameters, whatever the
    /// method: `system` is no id, so `DELETE /rules/system` is not `DELETE /rules/{id}` but 405.
    pub(super) fn find(&self, method: &str, path: &str) -> Found<'_> {
        let segments: Vec<&str> = segments(path).collect();
        let mut methods = Vec::new();
        if let Some(route) = self.walk(0, &segments, method, &mut methods) {
            let names = &self.names[route];
            let mut parameters = Vec::with_capacity(names.len());
            let placeholders = self::segments(self.routes[route].path).zip(&segments);
            let values =
                placeholders.filter(|(pattern, _)| pattern.starts_with('{')).map(|(_, value)| *value);
            for (name, value) in names.iter().zip(values) {
                let Some(value) = percent_decode(value) else { return Found::Nothing };
                parameters.push((*name, value.into_owned()));
            }
            return Found::Route { route: &self.routes[route], parameters };
        }
        if methods.is_empty() { Found::Nothing } else { Found::Methods(methods) }
    }

    fn walk(&self, at: usize, rest: &[&str], method: &str, methods: &mut Vec<&'static str>) -> Option<usize> {
        let node = &self.nodes[at];
        let Some((segment, rest)) = rest.split_first() else {
            for route in &node.routes {
                let offered = self.routes[*route].method;
                if offered == method {
                    return Some(*route);
                }
                if !methods.contains(&offered) {
                    methods.push(offered);
                }
            }
            return None;
        };
        let literal = node.literals.iter().find(|(text, _)| text == segment).map(|(_, to)| *to);
        if let Some(to) = literal {
            let before = methods.len();
            let found = self.walk(to, rest, method, methods);
            // The path is there, be it for other methods only.
            if found.is_some() || methods.len() > before {
                return found;
            }
        }
        let parameter = node.parameter.filter(|_| !segment.is_empty())?;
        self.walk(parameter, rest, method, methods)
    }
}

/// `/a/b` → `a`, `b`. A trailing slash gives an empty last segment, which nothing matches.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

/// Undoes `%41`; `None` if the result is not UTF-8 or a percent sign is not followed by two hex digits.
pub(super) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'%' {
            let digits = tail.get(..2)?;
            let digit = |at: usize| char::from(digits[at]).to_digit(16);
            bytes.push(u8::try_from(digit(0)? * 16 + digit(1)?).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Access, Call, Reply};

    fn tree(table: &[(&'static str, &'static str)]) -> Tree {
        let route = |(method, path): &(&'static str, &'static str)| {
            Route::new(method, path, Access::Public, "", async |_: Call| Ok(Reply::message("")))
        };
        Tree::new(table.iter().map(route).collect())
    }

    fn find(tree: &Tree, method: &str, path: &str) -> String {
        match tree.find(method, path) {
            Found::Route { route, parameters } => {
                let text: Vec<String> =
                    parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("{} {} {}", route.method, route.path, text.join(",")).trim_end().into()
            }
            Found::Methods(methods) => format!("405 {}", methods.join(",")),
            Found::Nothing => "404".into(),
        }
    }

    #[test]
    fn literals_win_over_parameters() {
        let tree = tree(&[
            ("GET", "/rules"),
            ("POST", "/rules"),
            ("GET", "/rules/system"),
            ("GET", "/rules/{id}"),
            ("DELETE", "/rules/{id}"),
            ("GET", "/certs/{cert_id}/targets"),
            ("GET", "/certs/{id}"),
            ("GET", "/certs/{id}/key.pem"),
        ]);
        assert_eq!(find(&tree, "GET", "/rules"), "GET /rules");
        assert_eq!(find(&tree, "GET", "/rules/system"), "GET /rules/system");
        assert_eq!(find(&tree, "DELETE", "/rules/system"), "405 GET");
        assert_eq!(find(&tree, "GET", "/rules/7%2F8%20x"), "GET /rules/{id} id=7/8 x");
        assert_eq!(find(&tree, "PUT", "/rules"), "405 GET,POST");
        assert_eq!(find(&tree, "PUT", "/rules/system"), "405 GET");
        assert_eq!(find(&tree, "GET", "/certs/5/targets"), "GET /certs/{cert_id}/targets cert_id=5");
        assert_eq!(find(&tree, "GET", "/certs/5"), "GET /certs/{id} id=5");
        assert_eq!(find(&tree, "GET", "/certs/5/key.pem"), "GET /certs/{id}/key.pem id=5");
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        let tree = tree(&[("GET", "/rules"), ("GET", "/rules/{id}")]);
        for path in
            ["/rule", "/rules/", "/rules/1/2", "/", "", "//rules", "/rules/%zz", "/rules/%ff", "/rules/%4"]
        {
            assert_eq!(find(&tree, "GET", path), "404", "{path}");
        }
    }
}
