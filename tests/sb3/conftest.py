import pytest


@pytest.fixture(autouse=True)
def _one_thread_of_torch():
    """Its threads wait for one another by spinning, which tests in other processes slow down."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
