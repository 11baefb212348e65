//! `call`: HTTP, OpenAPI, MCP, functions, and what is not carried.

use super::authentication::is_credential_header;
use super::expressions::{Locals, Moment, Scope, enclosed};
use super::performance::Default as Class;
use super::spot::Spot;
use super::{Checker, Maybe, flip};
use crate::definition::is_header_name;
use crate::status::EffectClass;
use crate::workflow::document::{Authentication, HttpCall, HttpOutput, McpCall, OpenApiCall, Work};
use crate::workflow::expression::Template;
use crate::workflow::read::{Kind, cut};

const HTTP_KEYS: [&str; 7] = ["method", "endpoint", "headers", "body", "query", "output", "redirect"];
const OPENAPI_KEYS: [&str; 6] =
    ["document", "operationId", "parameters", "authentication", "output", "redirect"];
const MCP_KEYS: [&str; 6] = ["protocolVersion", "method", "parameters", "timeout", "transport", "client"];
const MCP_METHODS: [&str; 7] = [
    "tools/list",
    "tools/call",
    "prompts/list",
    "prompts/get",
    "resources/list",
    "resources/read",
    "resources/templates/list",
];

impl<'n> Checker<'n, '_> {
    pub(super) fn call(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<Work> {
        let spot = task.get("call")?;
        let scope = locals.at(Moment::During);
        match self.text(&spot)? {
            "http" => self.http(task, locals).map(Work::Http),
            "openapi" => self.openapi(task, locals).map(Work::OpenApi),
            "mcp" => self.mcp(task, locals).map(Work::Mcp),
            protocol @ ("grpc" | "asyncapi" | "a2a") => {
                let message = format!(
                    "`call: {protocol}` is not carried: reach the service by `http`, or by a worker of your own with `task:1.0.0@default`"
                );
                self.refuse(spot.wrong(message))
            }
            "approval:1.0.0@default" => self.approval(task, scope).map(Work::Approval),
            "agent:1.0.0@default" => self.agent(task, scope).map(Work::Child),
            "task:1.0.0@default" => self.queue_task(task, locals).map(Work::Queue),
            name => {
                let with = flip(task.get("with").map(|with| self.arguments(&with, scope)));
                let function = self.called(&spot, name);
                Some(Work::Function { with: with?, task: function? })
            }
        }
    }

    /// `with` of a function: an object, or an expression for one.
    pub(super) fn arguments(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Template> {
        let is_expression = spot.text().is_some_and(|text| enclosed(text).is_some());
        if !is_expression && !matches!(spot.node.kind, Kind::Map(_)) {
            return self.expected(spot, "an object, or one expression `${ … }`");
        }
        self.template(spot, scope)
    }

    pub(super) fn optional_arguments(
        &mut self,
        parent: &Spot<'n>,
        key: &str,
        scope: Scope<'_>,
    ) -> Maybe<Template> {
        flip(parent.get(key).map(|found| self.arguments(&found, scope)))
    }

    fn http(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<HttpCall> {
        let with = self.required(task, "with")?;
        let performance = self.performance(task, locals, Class::ByMethod);
        let mut call = self.http_call(&with, locals.at(Moment::During))?;
        call.performance = performance?;
        Some(call)
    }

    /// What `with` of `call: http` holds, and `reconcile` as well.
    pub(super) fn http_call(&mut self, with: &Spot<'n>, scope: Scope<'_>) -> Option<HttpCall> {
        self.object(with, "`with` of `call: http`", &HTTP_KEYS)?;
        let method = self.required(with, "method").and_then(|method| self.method(&method, scope));
        let endpoint = self.required(with, "endpoint").and_then(|endpoint| self.endpoint(&endpoint, scope));
        let headers = flip(with.get("headers").map(|headers| self.headers(&headers, scope)));
        let query = flip(with.get("query").map(|query| self.query(&query, scope)));
        let body = flip(with.get("body").map(|body| self.template(&body, scope)));
        let output = self.http_output(with);
        let redirect = self.boolean(with, "redirect", false);
        let (uri, authentication) = endpoint?;
        Some(HttpCall {
            method: method?,
            uri,
            authentication,
            headers: headers?,
            query: query?,
            body: body?,
            output: output?,
            redirect: redirect?,
            performance: Default::default(),
        })
    }

    fn method(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Template> {
        let text = self.text(spot)?;
        if enclosed(text).is_some() {
            return self.template(spot, scope);
        }
        if text.len() <= 20 && text.bytes().all(|b| b.is_ascii_alphabetic()) {
            return Some(Template::Constant(text.to_ascii_uppercase().into()));
        }
        self.expected(spot, "an HTTP method such as `get`")
    }

    /// A URI, an expression for one, or `{uri, authentication}`.
    pub(super) fn endpoint(
        &mut self,
        spot: &Spot<'n>,
        scope: Scope<'_>,
    ) -> Option<(Template, Option<Authentication>)> {
        if spot.text().is_some() {
            return Some((self.uri(spot, scope)?, None));
        }
        self.object(spot, "an endpoint", &["uri", "authentication"])?;
        let uri = self.required(spot, "uri").and_then(|uri| self.uri(&uri, scope));
        let authentication = self.authentication(spot, scope);
        Some((uri?, authentication?))
    }

    fn uri(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Template> {
        let text = self.text(spot)?;
        if enclosed(text).is_some() {
            return self.template(spot, scope);
        }
        match check_uri(text) {
            Ok(()) => self.template(spot, scope),
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }

    pub(super) fn headers(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Template> {
        for member in spot.members() {
            let found = spot.member(member);
            if !is_header_name(&member.key) {
                self.error(found.wrong_key(format!("`{}` is no header's name", cut(&member.key))));
            }
            let Some(text) = found.text() else {
                let _: Option<()> = self.expected(&found, "a text or an expression `${ … }`");
                continue;
            };
            if enclosed(text).is_none() && is_credential_header(&member.key) {
                let message = format!(
                    "`{}` holds a credential in plain text: name a secret in `authentication` of the endpoint",
                    cut(&member.key)
                );
                self.error(found.wrong(message));
            }
            if text.bytes().any(|b| (b < 0x20 && b != b'\t') || b == 0x7f) && enclosed(text).is_none() {
                self.error(found.wrong("characters that a header may not have"));
            }
        }
        self.arguments(spot, scope)
    }

    fn query(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Template> {
        for member in spot.members() {
            let found = spot.member(member);
            let is_value = |kind: &Kind| matches!(kind, Kind::Text(_) | Kind::Number(_) | Kind::Bool(_));
            let several = |kind: &Kind| matches!(kind, Kind::List(items) if items.iter().all(|item| is_value(&item.kind)));
            if !is_value(&found.node.kind) && !several(&found.node.kind) {
                let what = "a text, a number, `true`, `false`, an expression, or a list of these";
                let _: Option<()> = self.expected(&found, what);
            }
        }
        self.arguments(spot, scope)
    }

    fn http_output(&mut self, with: &Spot<'n>) -> Option<HttpOutput> {
        let Some(spot) = with.get("output") else { return Some(HttpOutput::Content) };
        Some(match self.word(&spot, &["content", "response", "raw"])? {
            "raw" => HttpOutput::Raw,
            "response" => HttpOutput::Response,
            _ => HttpOutput::Content,
        })
    }

    fn openapi(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<OpenApiCall> {
        let scope = locals.at(Moment::During);
        let with = self.required(task, "with")?;
        self.object(&with, "`with` of `call: openapi`", &OPENAPI_KEYS)?;
        let document = self.required(&with, "document").and_then(|found| self.resource(&found, scope));
        let operation = self.required_text(&with, "operationId");
        let parameters = self.optional_arguments(&with, "parameters", scope);
        let authentication = self.authentication(&with, scope);
        let output = self.http_output(&with);
        let redirect = self.boolean(&with, "redirect", false);
        let performance = self.performance(task, locals, Class::ByMethod);
        let (document, document_authentication) = document?;
        Some(OpenApiCall {
            document,
            document_authentication,
            operation: operation?.to_owned(),
            parameters: parameters?,
            authentication: authentication?,
            output: output?,
            redirect: redirect?,
            performance: performance?,
        })
    }

    /// `{name, endpoint}`.
    fn resource(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<(Template, Option<Authentication>)> {
        self.object(spot, "a document elsewhere", &["name", "endpoint"])?;
        self.optional_text(spot, "name")?;
        let endpoint = self.required(spot, "endpoint")?;
        self.endpoint(&endpoint, scope)
    }

    fn mcp(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<McpCall> {
        let scope = locals.at(Moment::During);
        let with = self.required(task, "with")?;
        self.object(&with, "`with` of `call: mcp`", &MCP_KEYS)?;
        let version = self.optional_text(&with, "protocolVersion");
        let method = self.required(&with, "method").and_then(|method| self.word(&method, &MCP_METHODS));
        let parameters = self.optional_arguments(&with, "parameters", scope);
        let timeout = self.optional_duration(&with, "timeout", scope);
        let transport = self.required(&with, "transport").and_then(|found| self.transport(&found, scope));
        let client = self.mcp_client(&with);
        let performance = self.performance(task, locals, Class::Is(EffectClass::AtMostOnce));
        let _are_right = (version?, client?);
        let (endpoint, headers, authentication) = transport?;
        Some(McpCall {
            method: method?.to_owned(),
            parameters: parameters?,
            endpoint,
            headers,
            authentication,
            timeout: timeout?,
            performance: performance?,
        })
    }

    #[allow(clippy::type_complexity)]
    fn transport(
        &mut self,
        spot: &Spot<'n>,
        scope: Scope<'_>,
    ) -> Option<(Template, Option<Template>, Option<Authentication>)> {
        self.object(spot, "`transport`", &["http", "stdio", "options"])?;
        if let Some(stdio) = spot.get("stdio") {
            let message = "MCP over stdio is not carried: it would run a program beside Holdpoint; use `transport.http`";
            return self.refuse(stdio.wrong_key(message));
        }
        if let Some(options) = spot.get("options") {
            return self.refuse(options.wrong_key("`options` of a transport are not carried"));
        }
        let http = self.required(spot, "http")?;
        self.object(&http, "`http` of a transport", &["endpoint", "headers"])?;
        let endpoint = self.required(&http, "endpoint").and_then(|found| self.endpoint(&found, scope));
        let headers = flip(http.get("headers").map(|headers| self.headers(&headers, scope)));
        let (endpoint, authentication) = endpoint?;
        Some((endpoint, headers?, authentication))
    }

    /// Checked, and left aside: a server is told that we are Holdpoint.
    fn mcp_client(&mut self, with: &Spot<'n>) -> Option<()> {
        let Some(spot) = with.get("client") else { return Some(()) };
        self.object(&spot, "`client`", &["name", "version", "description"])?;
        for key in ["name", "version"] {
            self.required_text(&spot, key)?;
        }
        Some(())
    }
}

/// An http or https URI, in which `{name}` stands for a member of the task's input.
pub(super) fn check_uri(text: &str) -> Result<(), String> {
    let shown = cut(text);
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if authority.is_empty() || text.bytes().any(|b| b <= 0x20 || b == 0x7f) {
        return Err(format!("`{shown}`: expected an http or https URI, or an expression `${{ … }}`"));
    }
    if authority.contains('@') {
        return Err("the URI holds a user or a password: name a secret in `authentication`".to_owned());
    }
    check_braces(text).map_err(|message| format!("`{shown}`: {message}"))
}

fn check_braces(text: &str) -> Result<(), String> {
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        if rest[open..].starts_with('}') {
            return Err("a `}` without its `{`".to_owned());
        }
        let inner = &rest[open + 1..];
        let close = inner.find('}').ok_or("a `{` without its `}`")?;
        let name = &inner[..close];
        if name.is_empty() || name.contains('{') {
            return Err(format!("`{{{name}}}` names nothing"));
        }
        if name.starts_with(['+', '#', '.', '/', ';', '?', '&', '=', ',', '!', '@', '|'])
            || name.contains([',', '*', ':'])
        {
            return Err(format!("`{{{name}}}`: only a plain `{{name}}` is carried"));
        }
        rest = &inner[close + 1..];
    }
    Ok(())
}
