import Foundation
import Testing

@testable import Configuration

@Suite("The table of options, the schema and the example agree")
struct OptionTableTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent()

  private func schema() throws -> JSONNode {
    let bytes = try Data(contentsOf: Self.root.appending(path: "deploy/nearside.schema.json"))
    let reading = JSONReader.read(Array(bytes))
    #expect(reading.diagnostics.isEmpty)
    return try #require(reading.node)
  }

  @Test("the example can be used as it stands, and sets every option that has an effect")
  func example() throws {
    let bytes = try Data(contentsOf: Self.root.appending(path: "config.example.json"))
    let reading = ConfigurationReader.read(Array(bytes), file: "config.example.json", environment: [:]) { _ in
      nil
    }
    #expect(summary(reading.diagnostics) == [])
    let settings = try #require(reading.settings)
    #expect(settings.namespace == "shop")
    #expect(settings.redis?.endpoint == .tcp(host: "cache.shop.internal", port: 6379))
    #expect(settings.postgres.password == nil)
    #expect(settings.tables.count == 6)
    #expect(settings.caches.count == 10)
    var used: Set<String> = []
    func walk(_ node: JSONNode, _ keys: [String]) {
      if let path = ConfigurationOption.path(of: keys) { used.insert(path) }
      for member in node.members ?? [] { walk(member.node, keys + [member.key]) }
      for element in node.elements ?? [] { walk(element, keys) }
    }
    walk(try #require(JSONReader.read(Array(bytes)).node), [])
    let served = Set(ConfigurationOption.all.map(\.path) + [""])
    #expect(used == served)
  }

  @Test("options stand behind their sections, once, and their defaults can be read")
  func table() {
    var seen: Set<String> = [""]
    for option in ConfigurationOption.all {
      #expect(seen.contains(option.parent), "\(option.path)")
      #expect(seen.insert(option.path).inserted, "\(option.path)")
      #expect(option.summary.hasSuffix("."), "\(option.path)")
      guard let value = option.defaultValue else { continue }
      switch option.kind {
      case .duration: #expect(Units.duration(value) != nil, "\(option.path)")
      case .size: #expect(Units.size(value) != nil, "\(option.path)")
      case .fileMode: #expect(Units.fileMode(value) != nil, "\(option.path)")
      case .choice(let words): #expect(words.contains(value), "\(option.path)")
      case .percent: #expect(Units.percent(value) != nil, "\(option.path)")
      case .count(let range): #expect(Int(value).map(range.contains) == true, "\(option.path)")
      case .flag: #expect(Bool(value) != nil, "\(option.path)")
      case .factor, .orFalse: #expect(value == "false", "\(option.path)")
      default: Issue.record("\(option.path) has a default that nothing reads")
      }
    }
    for (section, names) in ConfigurationOption.notYet {
      #expect(section.isEmpty || ConfigurationOption.at(section) != nil)
      #expect(Set(names).isDisjoint(with: ConfigurationOption.names(in: section)))
    }
  }

  @Test("every option is in the schema with its kind, default and description")
  func schemaHoldsTable() throws {
    let schema = try schema()
    for option in ConfigurationOption.all {
      let node = try #require(property(option.path, of: schema), "\(option.path) is not in the schema")
      #expect(node["description"]?.string == option.summary, "\(option.path)")
      #expect(node["default"].map(text) == option.defaultValue, "\(option.path)")
      #expect(accepts(node, option.kind), "\(option.path) is of another kind in the schema")
    }
  }

  @Test("the schema has no property that is no option, and none that is open for more")
  func tableHoldsSchema() throws {
    func walk(_ node: JSONNode, _ path: String) {
      let choices = [node] + (node["oneOf"]?.elements ?? []) + (node["items"].map { [$0] } ?? [])
      for choice in choices {
        if let properties = choice["properties"]?.members {
          #expect(choice["additionalProperties"]?.bool == false, "\(path)")
          for member in properties {
            let below = path.isEmpty ? member.key : path + "." + member.key
            #expect(ConfigurationOption.at(below) != nil, "\(below) is not in the table of options")
            walk(member.node, below)
          }
        } else if let others = choice["additionalProperties"], others.members != nil {
          walk(others, path + ".*")
        }
      }
    }
    walk(try schema(), "")
    #expect(try schema()["required"]?.elements?.map(\.string) == ["tables"])
  }

  /// A text, number or boolean as the table writes it.
  private func text(_ node: JSONNode) -> String {
    node.string ?? node.number ?? node.bool.map(String.init) ?? node.kind
  }

  private func property(_ path: String, of schema: JSONNode) -> JSONNode? {
    var node: JSONNode? = schema
    for step in path.split(separator: ".").map(String.init) {
      let choices = node.map { [$0] + ($0["oneOf"]?.elements ?? []) + [$0["items"] ?? $0] } ?? []
      node =
        choices.lazy.compactMap { choice in
          step == "*" ? choice["additionalProperties"] : choice["properties"]?[step]
        }.first
    }
    return node
  }

  private func accepts(_ node: JSONNode, _ kind: ConfigurationOption.Kind) -> Bool {
    func refers(_ name: String) -> Bool { node["$ref"]?.string == "#/$defs/" + name }
    func words(_ node: JSONNode?) -> [String?]? {
      node?["anyOf"]?.elements?.first?["enum"]?.elements?.map(\.string)
    }
    let choices = node["oneOf"]?.elements ?? []
    return switch kind {
    case .text, .secret: node["type"]?.string == "string" && node["pattern"] == nil
    case .name(let longest): node["pattern"]?.string == "^([a-z0-9_]{1,\(longest)}|.*\\$.*)$"
    case .duration: refers("duration")
    case .size: refers("size")
    case .fileMode: refers("fileMode")
    case .percent: refers("percent")
    case .count(let range):
      node["type"]?.string == "integer" && node["minimum"]?.number == String(range.lowerBound)
        && node["maximum"]?.number == String(range.upperBound)
    case .flag: node["type"]?.string == "boolean"
    case .factor:
      node["anyOf"]?.elements?.first?["type"]?.string == "boolean"
        && node["anyOf"]?.elements?.last?["exclusiveMinimum"]?.number == "0"
    case .orFalse(let other):
      choices.count == 2 && choices[0]["const"]?.bool == false && accepts(choices[1], other)
    case .templates: refers("templates")
    case .choice(let expected): words(node) == expected
    case .choices(let expected): node["minItems"]?.number == "1" && words(node["items"]) == expected
    case .texts: node["minItems"]?.number == "1" && node["items"]?["type"]?.string == "string"
    case .section: node["properties"] != nil
    case .sections: node["minItems"]?.number == "1" && node["items"]?["properties"] != nil
    case .sectionOr(let other):
      choices.count == 2 && accepts(choices[0], other) && choices[1]["properties"] != nil
    case .sectionOrFalse:
      choices.count == 2 && choices[0]["const"]?.bool == false && choices[1]["properties"] != nil
    case .map: node["type"]?.string == "object" && node["additionalProperties"]?["description"] != nil
    }
  }
}
