from surefoot.checks.problem import Stop, collect, error, require, warning


def no_wheels(subject):
    yield error("It has no wheels.", "It cannot move.", "Add four.")
    yield warning("It is red.", "Red is loud.", "Paint it.")


def stops(subject):
    require(no_wheels(subject))
    yield warning("Never reached.", "", "")


def fails(subject):
    yield warning("It is old.", "Old is slow.", "Wait.")
    raise KeyError("wheel")


def test_all_problems_are_collected_once():
    problems = collect([no_wheels, stops, fails], None)
    assert [p.what for p in problems][:3] == ["It has no wheels.", "It is red.", "It is old."]
    assert [p.check for p in problems] == ["no wheels", "no wheels", "fails", "fails"]


def test_no_exception_escapes():
    (_, problem) = collect([fails], None)
    assert problem.severity == "error"
    assert problem.what == "The check 'fails' could not be carried out: KeyError: 'wheel'."


def test_a_problem_reads_as_sentences():
    (problem, _) = collect([no_wheels], None)
    assert str(problem) == "error: It has no wheels. It cannot move. Add four."
    assert str(Stop(problem)) == str(problem)
