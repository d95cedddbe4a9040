import Testing

@testable import Postgres

@Suite("What a connection says to run statements")
struct StatementPoolScriptTests {
  private typealias Command = StatementPool.Script.Command
  private typealias Answer = PostgresConnection.Answer

  private let statement = StatementPool.Statement("SELECT * FROM t WHERE id = $1", 1, timeout: 1_500_000)

  /// Drives a job to its end; `server` answers each command.
  private func run(
    _ script: inout StatementPool.Script, _ statement: StatementPool.Statement,
    form: StatementPool.Form? = nil, _ server: (Command) -> Result<Answer, Refused>
  ) -> (said: [Command], result: Result<StatementPool.Rows, StatementPool.Failure>) {
    var command = script.begin(0, statement, form: form)
    var said = [command]
    while said.count < 50 {
      let next =
        switch server(command) {
        case .success(let answer): script.answered(answer)
        case .failure(let refused): script.refused(.init(sqlState: refused.state))
        }
      switch next {
      case .done(let result): return (said, result)
      case .send(let following):
        command = following
        said.append(following)
      }
    }
    Issue.record("it does not end: \(said)")
    return (said, .failure(.noColumns))
  }

  private struct Refused: Error { var state: String }

  private func answer(_ command: Command, columns: [String], parameters: Int = 1) -> Answer {
    switch command {
    case .describe: Answer(columns: columns, parameterTypes: Array(repeating: 20, count: parameters))
    case .execute: Answer(columns: ["v"], height: 1, values: [[1]])
    case .askReplayed: Answer(columns: ["c"], height: 1, values: [Array("1/A".utf8)])
    default: Answer()
    }
  }

  @Test("The first job describes and prepares; the next one only runs")
  func first() {
    var script = StatementPool.Script(timeout: 2, asksReplayed: false)
    let first = run(&script, statement) { .success(answer($0, columns: ["v"])) }
    #expect(
      first.said == [
        .parse(statement.sql), .describe, .prepare(name: "nearside_0", statement.sql),
        .execute(name: "nearside_0"),
      ])
    #expect(script.form == StatementPool.Form(isJSON: false, types: [20]))
    let second = run(&script, statement) { .success(answer($0, columns: ["v"])) }
    #expect(second.said == [.execute(name: "nearside_0")])
    #expect(try! second.result.get().values == [[1]])
  }

  @Test("What another connection has found out is not asked for again")
  func known() {
    var script = StatementPool.Script(timeout: 2, asksReplayed: false)
    let said = run(&script, statement, form: StatementPool.Form(isJSON: true, types: [20])) {
      .success(answer($0, columns: []))
    }.said
    #expect(said.count == 2)
    guard case .prepare(_, let sql) = said[0] else {
      Issue.record("\(said)")
      return
    }
    #expect(sql.contains("row_to_json"))
    #expect(sql.contains("(\(statement.sql)\n)"))
  }

  @Test("The time limit is set only when it differs, and a replica is asked before each job")
  func limits() {
    var script = StatementPool.Script(timeout: 10, asksReplayed: true)
    let first = run(&script, statement, form: StatementPool.Form(isJSON: false, types: [20])) {
      .success(answer($0, columns: ["v"]))
    }
    #expect(first.said.first == .setTimeout(milliseconds: 2))
    #expect(script.replayed == 1 << 32 | 10)
    let second = run(&script, statement) { .success(answer($0, columns: ["v"])) }
    #expect(second.said == [.askReplayed, .execute(name: "nearside_0")])
    #expect(StatementPool.Script.milliseconds(0) == 1)
    #expect(StatementPool.Script.milliseconds(.max) > 0)
  }

  @Test("A refused plan is made anew once, and only if it was an old one", arguments: ["0A000", "26000"])
  func renewed(state: String) {
    var script = StatementPool.Script(timeout: 2, asksReplayed: false)
    func refuse(_ command: Command) -> Result<Answer, Refused> {
      if case .execute = command { return .failure(Refused(state: state)) }
      return .success(answer(command, columns: ["v"]))
    }
    let fresh = run(&script, statement, refuse)
    #expect(fresh.said.count == 4)
    #expect(throws: StatementPool.Failure.self) { try fresh.result.get() }
    let old = run(&script, statement, refuse)
    let again: [Command] = [
      .parse(statement.sql), .describe, .prepare(name: "nearside_0", statement.sql),
      .execute(name: "nearside_0"),
    ]
    let dropped: [Command] = state == "0A000" ? [.deallocate("nearside_0")] : []
    #expect(old.said == [.execute(name: "nearside_0")] + dropped + again)
    #expect(throws: StatementPool.Failure.self) { try old.result.get() }
  }

  @Test("Another error of an old statement is an error", arguments: ["40001", "57014", "25006"])
  func refused(state: String) {
    var script = StatementPool.Script(timeout: 2, asksReplayed: false)
    _ = run(&script, statement) { .success(answer($0, columns: ["v"])) }
    let said = run(&script, statement) { _ in .failure(Refused(state: state)) }.said
    #expect(said == [.execute(name: "nearside_0")])
  }

  @Test("Columns that change at every look end the job")
  func restless() {
    var script = StatementPool.Script(timeout: 2, asksReplayed: false)
    let result = run(&script, statement) { command in
      if case .execute = command {
        return .success(Answer(columns: ["a", "b"], height: 1, values: [[1], [2]]))
      }
      return .success(answer(command, columns: ["v"]))
    }.result
    #expect(result == .failure(.unstable))
  }
}
