import Configuration
import Testing

@testable import Server

@Suite("The statements of a configuration")
struct SQLStatementsTests {
  @Test("Each cache knows its load and its write in the list that the runner is made with")
  func numbers() throws {
    let place = SourcePlace(line: 1, column: 1, length: 1)
    let plainSet = PlainSetSettings(mode: .window, window: 1)
    func rule(_ key: String, load: String?, write: String?, many: String? = nil) throws -> CacheRule {
      CacheRule(
        template: try KeyTemplate.parse(key, place: place), near: nil, plainSet: plainSet,
        load: try load.map {
          LoadSettings(
            sql: try SQLTemplate.parse($0, place: place), shape: .list,
            many: try many.map { try SQLTemplate.parse($0, place: place) }, timeout: 7)
        },
        write: try write.map { .through(try SQLTemplate.parse($0, place: place)) } ?? .around)
    }
    let caches = [
      try rule("a:{id}", load: nil, write: "DELETE FROM a WHERE id = :id OR id = :id - 1"),
      try rule("b:{id}", load: nil, write: nil),
      try rule(
        "c:{x}:{y}", load: "SELECT v FROM c WHERE y = :y AND x = :x", write: "UPDATE c SET v = :value",
        many: "SELECT y, v FROM c WHERE y = ANY(:y)"),
    ]
    let statements = SQLStatements(caches: caches, writeTimeout: 9)
    #expect(statements.loads == [nil, nil, 1])
    #expect(statements.writes == [0, nil, 3] && statements.manyLoads == [nil, nil, 2])
    #expect(
      statements.all == [
        SQLStatement(
          sql: "DELETE FROM a WHERE id = $1 OR id = $1 - 1", parameterCount: 1, mode: .write, timeout: 9),
        SQLStatement(
          sql: "SELECT v FROM c WHERE y = $1 AND x = $2", parameterCount: 2, mode: .load(as: .list),
          timeout: 7),
        SQLStatement(
          sql: "SELECT y, v FROM c WHERE y = ANY($1)", parameterCount: 1, mode: .loadMany, timeout: 7),
        SQLStatement(sql: "UPDATE c SET v = $1", parameterCount: 1, mode: .write, timeout: 9),
      ])
  }
}
