# What jq has and jaq has not, or has otherwise.
def toarray: if isarray then . else [.] end;
def trimstr($text): ltrimstr($text) | rtrimstr($text);
def ascii: [.] | implode;
def isvalid(f): try (f | true) catch false;
def leaf_paths: paths(scalars);
def IN(values): . as $one | any(values; . == $one);
def IN(these; values): any(these; IN(values));
def INDEX(rows; key): reduce rows as $row ({}; . + {($row | key | tostring): $row});
def INDEX(key): INDEX(.[]; key);
def from_entries:
  def name: if has("key") then .key elif has("k") then .k elif has("name") then .name
    elif has("Name") then .Name elif has("Key") then .Key else .K end;
  def content: if has("value") then .value elif has("v") then .v
    elif has("Value") then .Value else .V end;
  reduce .[] as $entry ({}; . + {($entry | name | if isstring then . else tojson end): ($entry | content)});
def with_entries(f): to_entries | map(f) | from_entries;
def @csv:
  def field: if isstring then "\"" + gsub("\""; "\"\"") + "\"" elif . == null then ""
    elif isnumber or isboolean then tostring else error("a field of @csv is no array and no object") end;
  map(field) | join(",");
def @tsv:
  def field:
    if isstring then gsub("\\\\"; "\\\\") | gsub("\t"; "\\t") | gsub("\n"; "\\n") | gsub("\r"; "\\r")
    elif . == null then ""
    elif isnumber or isboolean then tostring else error("a field of @tsv is no array and no object") end;
  map(field) | join("\t");
