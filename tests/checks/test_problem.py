from surefoot.checks.problem import Stop, checks_of, collect, error, require, warning


class Bicycle:
    def check_no_wheels(self):
        yield error("It has no wheels.", "It cannot move.", "Add two.")
        yield warning("It is red.", "Red is loud.", "Paint it.")

    def check_stops(self):
        require(self.check_no_wheels())
        yield warning("Never reached.", "", "")

    def check_fails(self):
        yield warning("It is old.", "Old is slow.", "Wait.")
        raise KeyError("wheel")

    def helper(self):
        raise NotImplementedError


def test_checks_are_named_in_words():
    assert list(checks_of(Bicycle)) == ["no wheels", "stops", "fails"]


def test_all_problems_are_collected_once():
    problems = collect(Bicycle())
    assert [p.what for p in problems][:3] == ["It has no wheels.", "It is red.", "It is old."]
    assert [p.check for p in problems] == ["no wheels", "no wheels", "fails", "fails"]


def test_no_exception_escapes():
    (_, problem) = collect(Bicycle(), "fails")
    assert problem.severity == "error"
    assert problem.what == "The check 'fails' could not be carried out: KeyError: 'wheel'."


def test_a_problem_reads_as_sentences():
    (problem, _) = collect(Bicycle(), "no wheels")
    assert str(problem) == "error: It has no wheels. It cannot move. Add two."
    assert str(Stop(problem)) == str(problem)
