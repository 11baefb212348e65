//! The secrets that a definition names.

use std::collections::BTreeSet;

use super::Agent;

impl Agent {
    /// The names of the secrets that its calls are sent with.
    pub fn secrets(&self) -> BTreeSet<String> {
        let tools = self.tools.iter().flat_map(|tool| {
            let http = tool.http.as_ref().and_then(|http| http.secret.as_ref());
            let mcp = tool.mcp.as_ref().and_then(|mcp| mcp.secret.as_ref());
            let asked = tool.reconcile.as_ref().and_then(|reconcile| reconcile.secret.as_ref());
            [http, mcp, asked]
        });
        tools.chain([self.model.secret.as_ref()]).flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_agent;

    #[test]
    fn each_call_s_secret_is_found_and_a_parameter_of_that_name_is_none() {
        let document = serde_json::json!({
            "model": {"base_url": "https://models.test/v1", "name": "m", "secret": "openai"},
            "tools": [
                {"name": "t", "description": "d", "http": {"url": "https://crm.test/", "secret": "crm"},
                 "reconcile": {"url": "https://crm.test/ask", "secret": "ask"},
                 "parameters": {"type": "object", "properties": {"secret": {"type": "string"}}}},
                {"name": "s", "mcp": {"url": "https://mcp.test/", "secret": "mcp"}},
            ],
        });
        let agent = parse_agent(&document.to_string()).expect("an agent");
        assert_eq!(Vec::from_iter(agent.secrets()), ["ask", "crm", "mcp", "openai"]);
    }
}
