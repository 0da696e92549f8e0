from services.gateway.pipeline.prompt.json_size import json_characters


def test_texts_keys_and_values_count():
    assert json_characters({"key": ["text", 1]}, 1000) == 4 * 4 + len("key") + len("text")


def test_depth_and_large_numbers_are_no_obstacle():
    deep = 10**400
    for _ in range(100_000):
        deep = [deep]
    assert json_characters(deep, 1_000_000) == 400_004


def test_counting_stops_soon_beyond_the_bound():
    assert 1000 < json_characters([0] * 1_000_000, 1000) <= 1004
