"""What Grafana would not say of deploy/grafana/dashboard.json until somebody looks at it.

    dashboard.py check FILE    prints what is wrong with the file's structure
    dashboard.py rules FILE    prints its expressions as recording rules, for promtool check rules
"""

import json
import re
import sys

import yaml

WIDTH = 24  # columns of Grafana's grid
# What Grafana puts in before it asks Prometheus.
VARIABLES = {"$__rate_interval": "5m", "$job": ".*", "$instance": ".*", "$cache": ".*"}


def expressions(dashboard):
    """(title, expression) of every query."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            yield annotation["name"], annotation["expr"]


def resolved(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def problems(dashboard):
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    numbers, taken = set(), {}
    for panel in dashboard["panels"]:
        title = panel.get("title") or f"panel {panel['id']}"
        if panel["id"] in numbers:
            yield f"{title}: the id {panel['id']} is another panel's"
        numbers.add(panel["id"])
        place = panel["gridPos"]
        if place["x"] + place["w"] > WIDTH:
            yield f"{title}: it reaches beyond the grid"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken:
                    yield f"{title}: it lies over {taken[x, y]}"
                    break
                taken[x, y] = title
        if panel["type"] == "row":
            continue
        if not panel["fieldConfig"]["defaults"].get("unit"):
            yield f"{title}: it has no unit"
        if not panel.get("description"):
            yield f"{title}: it has no description"
        if not panel["targets"]:
            yield f"{title}: it asks nothing"
        if panel["datasource"]["uid"] != "${datasource}":
            yield f"{title}: its data source is not the chosen one"
        if len({target["refId"] for target in panel["targets"]}) < len(panel["targets"]):
            yield f"{title}: two of its queries have one name"
    for title, expression in expressions(dashboard):
        for name in re.findall(r"\$\{?(\w+)", expression):
            if name not in variables and not name.startswith("__"):
                yield f"{title}: there is no variable {name}"
        if "$" in resolved(expression):
            yield f"{title}: {resolved(expression)} still has a variable"
    if dashboard.get("id") is not None:
        yield "it has the number of one Grafana"


def main():
    verb, path = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        dashboard = json.load(file)
    if verb == "check":
        found = list(problems(dashboard))
        print("\n".join(found), end="\n" if found else "")
        sys.exit(1 if found else 0)
    rules = [
        {"record": f"panel:{number}", "expr": resolved(expression)}
        for number, (_, expression) in enumerate(expressions(dashboard))
    ]
    print(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))


main()
